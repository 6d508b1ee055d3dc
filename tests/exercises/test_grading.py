"""Notebooks that were handed in, executed and graded."""

import asyncio
import sys

import nbformat
import pytest
from helpers import exercise_checks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from transformer.exercises import grading
from transformer.exercises.__main__ import main
from transformer.exercises.self_check import SelfCheck
from transformer.exercises.troubleshooting import Reading

SOLUTION = """
from transformer.exercises.setup import check_device_name

def my_device_name(wanted, has_cuda, has_mps):
    in_order = [("cuda", has_cuda), ("mps", has_mps), ("cpu", True)]
    present = [name for name, is_present in in_order if is_present]
    return wanted if wanted in present else present[0]

check_device_name(my_device_name)
"""
WRONG = SOLUTION.replace("wanted if wanted in present else ", "")
CLIPPING_LEFT_OUT = "from transformer.exercises.training import check_clipping"
HANDED_IN = {
    "anna/solved": [SOLUTION, CLIPPING_LEFT_OUT],
    "ben/wrong": [WRONG, CLIPPING_LEFT_OUT],
    "carl/solved_after_an_error": ["1 / 0", "def", WRONG, SOLUTION, WRONG],
    "dora/died": [SOLUTION, "import os; os._exit(1)"],
    "emil/from_the_book": [
        ":::{solution-start} ex-device\n:::",
        SOLUTION,
        ":::{solution-end}\n:::",
        "print('of my own')",
    ],
}


def write(path, sources):
    notebook = new_notebook(
        cells=[
            (new_markdown_cell if source.startswith(":::") else new_code_cell)(source)
            for source in sources
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handed in")
    for name, sources in HANDED_IN.items():
        write(folder / f"{name}.ipynb", sources)
    write(folder / "anna/.ipynb_checkpoints/solved-checkpoint.ipynb", [WRONG])
    (folder / "frieda.ipynb").write_text('{"cells": [', "utf-8")
    return folder


@pytest.fixture(scope="module")
def reports(folder):
    found = asyncio.run(grading.grade_folder(folder, time_limit=300))
    return {report.name.removesuffix(".ipynb"): report for report in found}


def test_every_notebook_has_a_report_and_copies_of_the_editor_have_none(reports):
    assert list(reports) == [*HANDED_IN, "frieda"]


def test_a_check_is_right_wrong_or_never_called(reports):
    assert reports["anna/solved"].solved == {
        "check_device_name": True,
        "check_clipping": None,
    }
    assert reports["ben/wrong"].solved == {
        "check_device_name": False,
        "check_clipping": None,
    }
    assert reports["anna/solved"].problem is reports["ben/wrong"].problem is None


def test_one_right_call_is_enough_and_errors_elsewhere_do_not_matter(reports):
    report = reports["carl/solved_after_an_error"]
    assert report == (report.name, {"check_device_name": True}, None)


def test_the_books_own_solution_solves_nothing(reports):
    assert reports["emil/from_the_book"].solved == {"check_device_name": None}


def test_a_process_that_dies_keeps_what_it_had_solved(reports):
    assert reports["dora/died"].solved == {"check_device_name": True}
    assert reports["dora/died"].problem == "its process died"


def test_a_file_that_is_no_notebook_is_a_row(reports):
    assert reports["frieda"].solved == {}
    assert reports["frieda"].problem.startswith("cannot be read: ")


def test_a_notebook_that_does_not_end_is_stopped(tmp_path):
    write(tmp_path / "loop.ipynb", ["while True: pass"])
    (report,) = asyncio.run(grading.grade_folder(tmp_path, time_limit=3))
    assert report == ("loop.ipynb", {}, "stopped after 3 seconds")


def test_a_process_that_does_not_even_start_is_a_row(tmp_path, monkeypatch):
    async def never_answers(*_arguments, **_options):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr("nbclient.NotebookClient.async_execute", never_answers)
    write(tmp_path / "ours.ipynb", [SOLUTION])
    (report,) = asyncio.run(grading.grade_folder(tmp_path, time_limit=300))
    assert report == ("ours.ipynb", {"check_device_name": None}, "its process died")


def test_the_table_has_a_row_for_each_and_a_block_for_each_set_of_checks(reports):
    chosen = [reports[name] for name in ("anna/solved", "ben/wrong", "frieda")]
    assert grading.table(chosen).splitlines() == [
        "notebook           device_name  clipping  solved",
        "anna/solved.ipynb  ✓            –         1 of 2",
        "ben/wrong.ipynb    ✗            –         0 of 2",
        "",
        "notebook      solved",
        f"frieda.ipynb  0 of 0  {reports['frieda'].problem}",
    ]


def test_a_folder_without_notebooks_and_no_folder_are_refused(
    tmp_path, monkeypatch, capsys
):
    missing = tmp_path / "missing"
    for folder, message in [
        (missing, f"{missing} is not a folder"),
        (tmp_path, f"there is no notebook (*.ipynb) in {tmp_path}"),
    ]:
        monkeypatch.setattr(sys, "argv", ["transformer.exercises", str(folder)])
        with pytest.raises(SystemExit, match="2"):
            main()
        assert capsys.readouterr().err.endswith(f"error: {message}\n")


def test_the_command_prints_the_table(tmp_path, monkeypatch, capsys):
    (tmp_path / "ours.ipynb").write_text("no JSON", "utf-8")
    monkeypatch.setattr(sys, "argv", ["transformer.exercises", str(tmp_path)])
    main()
    assert capsys.readouterr().out.startswith("notebook    solved\nours.ipynb  0 of 0")


def test_all_checks_are_known_and_no_two_have_one_name():
    all_checks = exercise_checks(SelfCheck) | exercise_checks(Reading)
    assert len(grading.checks()) == len(all_checks)
