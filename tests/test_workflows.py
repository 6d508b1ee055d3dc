"""What runs on GitHub is pinned, may do little, and leaves the work to make."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAY_WRITE = {
    ("publish.yml", "deploy"): {"pages": "write", "id-token": "write"},
    ("newest.yml", "newest"): {"contents": "read", "issues": "write"},
}


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    return request.param


def jobs(path):
    return yaml.safe_load(path.read_text("utf-8"))["jobs"].items()


def test_every_action_is_pinned_by_commit_and_names_its_version(workflow):
    used = re.findall(r"uses: (.*)", workflow.read_text("utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_a_job_may_write_only_what_it_is_there_for(workflow):
    text = yaml.safe_load(workflow.read_text("utf-8"))
    assert text["permissions"] == {"contents": "read"}
    for name, job in jobs(workflow):
        assert job.get("permissions") == MAY_WRITE.get((workflow.name, name))


def test_every_job_ends_some_time(workflow):
    assert all(job["timeout-minutes"] <= 60 for _, job in jobs(workflow))


def commands(job):
    """What a job runs, with what stands for the values of its matrix put in."""
    runs = [step["run"] for step in job["steps"] if "run" in step]
    for target in job.get("strategy", {}).get("matrix", {}).get("target", []):
        runs += [run.replace('"$TARGET"', target) for run in runs]
    return runs


def test_commands_are_targets_of_the_makefile(workflow):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for _, job in jobs(workflow):
        for command in re.findall(
            r"^ *make ([\w= -]+)", "\n".join(commands(job)), re.MULTILINE
        ):
            for word in command.split():
                if re.fullmatch(r"[a-z][a-z-]+", word):
                    assert re.search(rf"^{word}:", makefile, re.MULTILINE), word


def test_a_week_never_passes_without_the_newest_versions_and_the_canary():
    (newest,) = (path for path in WORKFLOWS if path.name == "newest.yml")
    assert "schedule" in newest.read_text("utf-8")
    ((_, job),) = jobs(newest)
    run = "\n".join(commands(job))
    assert "make newest " in run
    assert "make canary " in run
    assert job["continue-on-error"] == "${{ matrix.target == 'canary' }}"


def test_linux_runs_the_tests_with_nothing_done_by_hand_and_the_oldest_versions():
    (test,) = (path for path in WORKFLOWS if path.name == "test.yml")
    of = dict(jobs(test))
    assert commands(of["alone"]) == ["make test"]
    assert commands(of["floor"]) == ["make floor"]
    assert of["alone"]["runs-on"] == of["floor"]["runs-on"] == "ubuntu-latest"


def test_tests_run_on_every_python_and_every_system():
    (test,) = (path for path in WORKFLOWS if path.name == "test.yml")
    matrix = dict(jobs(test))["test"]["strategy"]["matrix"]["include"]
    assert {entry["os"].split("-")[0] for entry in matrix} == {
        "ubuntu",
        "macos",
        "windows",
    }
    on_linux = {entry["python"] for entry in matrix if "ubuntu" in entry["os"]}
    assert on_linux == {"3.11", "3.12", "3.13"}


def test_nothing_is_built_for_publication_under_another_address():
    (publish,) = (path for path in WORKFLOWS if path.name == "publish.yml")
    steps = dict(jobs(publish))["build"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [
        "make check-address",
        "make site-test",
    ]
    (own,) = (step["env"] for step in steps if step.get("run") == "make check-address")
    assert own == {"REPOSITORY": "${{ github.server_url }}/${{ github.repository }}"}
