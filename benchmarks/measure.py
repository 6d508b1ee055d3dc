"""What the benchmarks share: fair timing, and result files that say where they come from.

Contenders take turns, round by round, so that a busy neighbour slows all of them alike. A
ratio is taken within each round, and the median of the rounds is reported.

A benchmark of many runs can keep each that is finished, and go on after an interruption.
"""

import ast
import datetime
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import transformer

PACKAGE = Path(transformer.__file__).parent
# Inside the package, so that the page "Measured" finds them wherever it is installed.
RESULTS = PACKAGE / "results"
#: The runs that `kept` has seen finished; `make clean` forgets them.
KEPT = PACKAGE.parent / "_build" / "benchmarks"


def take_turns(
    contenders: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Call every contender once a round, after a call to warm up; seconds of each call."""
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def times_as_fast(seconds: dict[str, list[float]], reference: str) -> dict[str, float]:
    """How many times as fast as `reference` each contender is: median over the rounds."""
    return {
        name: statistics.median(
            theirs / own for theirs, own in zip(seconds[reference], times, strict=True)
        )
        for name, times in seconds.items()
    }


def write_results(name: str, packages: list[str], results: dict[str, Any]) -> None:
    """Store `results` with machine, versions and date as `NAME.json` in the package."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in packages},
        **results,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(_rounded(document), indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {path.relative_to(RESULTS.parent.parent)}")


def kept(run: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what each call of `run` returns as JSON, and read it when the call comes again.

    So a benchmark that was interrupted goes on where it stopped. The name of the file holds
    the arguments, and a digest of them and of the code: the file of `run`, what it imports
    from its folder, the package, and PyTorch's version. When any of these changes, `run` is
    called again. Its arguments must show all that they are in their `repr`.
    """

    @functools.wraps(run)
    def read_or_run(*arguments: Any) -> Any:
        path = KEPT / _name(run, arguments)
        if not path.exists():
            result = run(*arguments)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Renamed when it is whole, so that an interruption leaves no half of it.
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_text(json.dumps(result), "utf-8")
            unfinished.replace(path)
        return json.loads(path.read_text("utf-8"))

    return read_or_run


def _name(run: Callable[..., Any], arguments: tuple) -> str:
    own = Path(inspect.getfile(run))
    parts = [torch.__version__.encode(), repr(arguments).encode()]
    parts += [
        path.read_bytes() for path in sorted({*PACKAGE.glob("*.py"), *_code(own)})
    ]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    # Of named arguments, such as a NamedTuple shows, the values will do.
    readable = re.sub(r"\w+=|\W+", "-", f"{own.stem}-{run.__name__}{arguments}")
    readable = re.sub("-+", "-", readable)[:160]
    return f"{readable.strip('-')}-{digest}.json"


def _code(path: Path, known: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The file at `path`, and those beside it that it imports, and those they import."""
    if path in known or not path.exists():
        return known
    known |= {path}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in getattr(node, "names", [])]
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        elif not isinstance(node, ast.Import):
            continue
        for name in names:
            folder, *inside = name.split(".")
            if folder == path.parent.name:
                for module in inside:
                    known |= _code(path.with_name(f"{module}.py"), known)
    return known


def machine() -> dict[str, str | int]:
    """The processor's name, its cores as far as this process may use them, the system."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
        processor = found[1] if found else processor
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "system": platform.system(),
    }


def _rounded(value: Any) -> Any:
    """Four significant digits are more than a clock deserves."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
