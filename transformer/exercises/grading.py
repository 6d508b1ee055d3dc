"""Who solved which exercise, in a folder of notebooks that were handed in.

Every notebook is executed in a process of its own, and what its self-checks say is
noted. This runs the code of whoever wrote the notebooks, with your rights: for strangers'
work, use a container or a virtual machine.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import os
import pkgutil
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tqdm.asyncio import tqdm

import transformer
from transformer import exercises

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: The first cell of every notebook that is graded.
_FIRST_CELL = """
from transformer.exercises.grading import record_verdicts
record_verdicts({log!r})
del record_verdicts
"""


class Check(Protocol):
    """What an exercise calls to judge an answer."""

    def verdict(self, answer: Any) -> str:
        """One or several lines; the first begins with ✓ if the answer is right."""


class Report(NamedTuple):
    """What became of one notebook."""

    name: str
    """Its path within the folder."""
    solved: dict[str, bool | None]
    """For each check that the notebook names: right, wrong, or None if never called."""
    problem: str | None = None
    """Why the notebook was not executed to its end."""


def checks() -> dict[str, Check]:
    """Every check of the book by its name, such as `check_loss`."""
    modules = [
        importlib.import_module(f"transformer.exercises.{module.name}")
        for module in pkgutil.iter_modules(exercises.__path__)
        # `__main__` would start the command.
        if not module.name.startswith("_")
    ]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name.startswith("check_") and hasattr(value, "verdict")
    }


def record_verdicts(log: str | Path) -> None:
    """Let every check of this process note in a file, too, whether the answer was right.

    Args:
        log: gets a line of JSON for each call: the name of the check, and True or False.
    """
    names = {id(check): name for name, check in checks().items()}
    for kind in {type(check) for check in checks().values()}:
        kind.verdict = _recording(kind.verdict, names, Path(log))


def _recording(verdict: Any, names: dict[int, str], log: Path) -> Any:
    @functools.wraps(verdict)
    def recorded(check: Check, answer: Any) -> str:
        said = verdict(check, answer)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps([names.get(id(check)), said.startswith("✓")]) + "\n")
        return said

    return recorded


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """`notebook` without the cells of the book's solutions, which would solve everything.

    They lie between the directives `solution-start` and `solution-end`.
    """
    kept, in_solution = [], False
    for cell in notebook.cells:
        if not (in_solution and cell.cell_type == "code"):
            kept.append(cell)
        if cell.cell_type == "markdown":
            for edge in re.findall(r"\{solution-(start|end)\}", cell.source):
                in_solution = edge == "start"
    return type(notebook)({**notebook, "cells": kept})


def named_checks(notebook: NotebookNode) -> list[str]:
    """The checks that stand in the code of a notebook, solutions among it, in order."""
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    known = checks()
    return list(dict.fromkeys(w for w in re.findall(r"\w+", code) if w in known))


async def grade(path: Path, name: str, time_limit: float) -> Report:
    """Execute one notebook, errors and all, and say which of its exercises are solved.

    An exercise is solved if one call of its check, outside the book's solutions, says so.

    Args:
        name: what the report calls it.
        time_limit: seconds after which the notebook is stopped.
    """
    # In an environment that runs notebooks these are there; nothing else needs them.
    import nbclient
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        solved: dict[str, bool | None] = dict.fromkeys(named_checks(notebook))
        notebook = without_solutions(notebook)
    except Exception as error:
        return Report(name, {}, f"cannot be read: {type(error).__name__}")
    problem = None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        log = Path(directory) / "verdicts.jsonl"
        start = nbformat.v4.new_code_cell(_FIRST_CELL.format(log=str(log)))
        notebook.cells.insert(0, start)
        client = nbclient.NotebookClient(
            notebook,
            timeout=None,
            allow_errors=True,
            kernel_name="python3",
            # Warnings of the kernels would stand between the lines of the table.
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": directory}},
        )
        try:
            async with asyncio.timeout(time_limit) as clock:
                await client.async_execute(env=_environment())
        except (TimeoutError, RuntimeError):
            # A kernel that does not start, dies or is stopped: nbclient says the same of
            # all three.
            problem = "its process died"
            if clock.expired():
                problem = f"stopped after {time_limit:g} seconds"
        for check, is_right in _read_log(log):
            if check in solved:
                solved[check] = is_right or bool(solved[check])
    return Report(name, solved, problem)


def _environment() -> dict[str, str]:
    """That of the kernels: they must find the same package as this process."""
    package = str(Path(transformer.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _read_log(log: Path) -> list[list]:
    """What `record_verdicts` has written, without a line that was cut off."""
    lines = log.read_text("utf-8").splitlines(keepends=True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def grade_folder(folder: Path, time_limit: float) -> list[Report]:
    """Grade every notebook in a folder and its subfolders, several at a time.

    Raises:
        ValueError: if there is no folder or no notebook in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    paths = sorted(
        path
        for path in folder.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    )
    if not paths:
        raise ValueError(f"there is no notebook (*.ipynb) in {folder}")
    at_once = asyncio.Semaphore(os.cpu_count() or 1)

    async def take_turn(path: Path) -> Report:
        async with at_once:
            return await grade(path, path.relative_to(folder).as_posix(), time_limit)

    # Only a terminal shows the bar.
    return await tqdm.gather(*map(take_turn, paths), disable=None, unit="notebook")


def table(reports: Iterable[Report]) -> str:
    """A row for each notebook, a column for each check, a block for each chapter."""
    groups = defaultdict(list)
    for report in reports:
        groups[frozenset(report.solved)].append(report)
    return "\n\n".join("\n".join(_lines(group)) for group in groups.values())


def _lines(reports: list[Report]) -> Iterable[str]:
    names = list(reports[0].solved)
    titles = [name.removeprefix("check_") for name in names]
    left = max(len("notebook"), *(len(report.name) for report in reports))
    yield "  ".join(["notebook".ljust(left), *titles, "solved"])
    for report in reports:
        marks = [
            {True: "✓", False: "✗", None: "–"}[report.solved[name]].ljust(len(title))
            for name, title in zip(names, titles, strict=True)
        ]
        right = sum(bool(is_right) for is_right in report.solved.values())
        count = f"{right} of {len(names)}"
        yield "  ".join(
            [report.name.ljust(left), *marks, count, *filter(None, [report.problem])]
        )
