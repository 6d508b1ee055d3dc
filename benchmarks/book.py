"""How long the book takes: a cold and a warm build, nbval, each chapter, its slowest cell.

All of it happens in a copy of the tree without `_build`, so nothing here is cached there.
"""

import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from benchmarks.measure import machine, write_results

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
BUILD = [BIN / "jupyter-book", "build", ".", "-W", "-n", "--keep-going"]
PRINT_PEAK = """
import resource, sys
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
      / (1e6 if sys.platform == "darwin" else 1e3))
"""


def copy_tree(target: Path) -> None:
    """Copy what git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def seconds_of(command: list[str | Path], directory: Path) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=directory, check=False, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}{done.stderr}")
    return seconds


def measure_chapter(path: Path) -> dict:
    """Seconds and peak memory of one notebook, and its slowest cell."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PRINT_PEAK))
    start = time.perf_counter()
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": path.parent}}
    ).execute()
    seconds = time.perf_counter() - start
    *cells, last = [cell for cell in notebook.cells if cell.cell_type == "code"]
    slowest = max(cells, key=seconds_of_cell)
    chapter = {
        "chapter": path.stem,
        "seconds": seconds,
        "peak_megabytes": float(last.outputs[0].text),
        "slowest_cell": slowest.source.splitlines()[0],
        "slowest_cell_seconds": seconds_of_cell(slowest),
    }
    print(chapter)
    return chapter


def seconds_of_cell(cell: nbformat.NotebookNode) -> float:
    """Between the kernel's beginning with a cell and its reply."""
    times = cell.metadata.execution
    start, end = times["iopub.execute_input"], times["shell.execute_reply"]
    return (parse_time(end) - parse_time(start)).total_seconds()


def parse_time(text: str) -> datetime.datetime:
    """Jupyter's time stamps end in Z."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def main() -> None:
    """Measure, print, store."""
    os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        # The copy's own package comes before the installed one.
        os.environ["PYTHONPATH"] = directory
        cold, warm = seconds_of(BUILD, tree), seconds_of(BUILD, tree)
        print(f"cold build {cold:.0f} s, warm build {warm:.0f} s")
        workers = str(machine()["cores"])
        nbval = seconds_of(
            [BIN / "pytest", "--nbval", "-n", workers, "--dist", "loadfile", "book"],
            tree,
        )
        print(f"nbval {nbval:.0f} s")
        chapters = [measure_chapter(path) for path in sorted(tree.glob("book/*.ipynb"))]
    write_results(
        "book",
        ["jupyter-book", "sphinx", "myst-nb", "nbval", "torch"],
        {
            "cold_build_seconds": cold,
            "warm_build_seconds": warm,
            "nbval_seconds": nbval,
            "chapters": chapters,
        },
    )


if __name__ == "__main__":
    main()
