"""What the benchmarks share: fair timing, and result files that say where they come from.

Contenders take turns, round by round, so that a busy neighbour slows all of them alike. A
ratio is taken within each round, and the median of the rounds is reported.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformer

# Inside the package, so that the page "Measured" finds them wherever it is installed.
RESULTS = Path(transformer.__file__).parent / "results"


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
