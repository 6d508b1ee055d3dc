"""The locks hold what the requirements ask for, for every system and Python."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-cuda.lock")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
SYSTEMS = {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}
MACHINES = [
    {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
    }
    for (system, machine), python in itertools.product(
        SYSTEMS.items(), ["3.11", "3.12", "3.13"]
    )
]


def pins(name):
    """Each pinned package and its version, from a file of requirements."""
    found = re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text("utf-8"), re.MULTILINE
    )
    return {canonicalize_name(package): version for package, version in found}


def entries(lock):
    """A lock's requirements, each with its hashes."""
    text = (ROOT / lock).read_text("utf-8").replace("\\\n", " ")
    for entry in re.findall(r"^[^\s#].*", text, re.MULTILINE):
        yield Requirement(entry.split("--hash")[0]), HASH.findall(entry)


def versions(lock, machine):
    """What `lock` installs on `machine`."""
    return [
        (canonicalize_name(wanted.name), str(wanted.specifier).removeprefix("=="))
        for wanted, _ in entries(lock)
        if wanted.marker is None or wanted.marker.evaluate(machine)
    ]


@pytest.mark.parametrize(
    "machine",
    MACHINES,
    ids=lambda machine: f"{machine['sys_platform']}-{machine['python_version']}",
)
def test_every_machine_gets_each_pinned_version_and_no_package_twice(machine):
    locked = versions("requirements.lock", machine)
    assert len(dict(locked)) == len(locked)
    assert pins("requirements.txt").items() <= dict(locked).items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_file_is_known_by_its_hash_and_by_nothing_else(lock):
    assert all(hashes for _, hashes in entries(lock))
    assert all(
        re.fullmatch(r"==[\w.]+", str(wanted.specifier)) for wanted, _ in entries(lock)
    )
    assert "://" not in (ROOT / lock).read_text("utf-8")


@pytest.mark.parametrize("machine", MACHINES[:3], ids=lambda m: m["python_version"])
def test_with_cuda_linux_gets_more_packages_and_the_same_versions(machine):
    plain = dict(versions("requirements.lock", machine))
    cuda = dict(versions("requirements-cuda.lock", machine))
    assert {name for name in plain if re.match("cuda|nvidia|triton", name)} == set()
    assert {"nvidia-cublas", "triton"} <= cuda.keys()
    assert {
        name: plain.get(name) for name in cuda if name in plain
    }.items() <= cuda.items()


def test_binder_gets_the_versions_of_everybody_else():
    ours, binder = pins("requirements.txt"), pins(".binder/requirements.txt")
    shared = ours.keys() & binder.keys()
    assert {"torch", "numpy", "matplotlib", "safetensors", "tqdm"} <= shared
    assert all(ours[name] == binder[name] for name in shared)


def test_make_installs_what_is_locked_and_nothing_else():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rule = re.search(r"^\$\(READY\):.*?\n\n", makefile, re.MULTILINE | re.DOTALL)[0]
    assert all(lock in rule for lock in LOCKS)
    assert "--no-deps --require-hashes" in rule
    assert "-r requirements.txt" not in rule


def test_the_oldest_versions_allowed_are_those_of_the_readme_and_allow_the_pinned_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    readme = (ROOT / "README.md").read_text("utf-8")
    for dependency in map(Requirement, project["dependencies"]):
        (oldest,) = dependency.specifier
        assert oldest.operator == ">="
        assert f"`{dependency.name}` {oldest.version}" in readme
        assert pins("requirements.txt")[dependency.name] in dependency.specifier
