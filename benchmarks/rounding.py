"""Would the tests and the chapters hold on a processor that nobody here has?

Numbers are rounded differently by another processor, and a model that is trained with other
roundings becomes another model. Every test that trains a model, and every notebook, is run
again

- as other processors would compute, as far as this one can be told to;
- twenty times with noise of about a millionth in every freshly built model: a stand-in for
  all other roundings;
- twenty times with other seeds (notebooks only). Their outputs are then others, so only
  what is asserted or printed as a comparison counts.

Reported are, for each test and each chapter, how many runs held, and the smallest margin:
of the slack between what is measured and its bound, the mean divided by the standard
deviation over twenty runs.

What has been run is kept in `_build/rounding`, as long as neither the package nor the test
or notebook changes: a run that was interrupted goes on where it stopped.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
import torch

from benchmarks.measure import machine, write_results
from benchmarks.perturbation import NOISE
from transformer.notebook import read_results

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "_build" / "rounding"
NUM_RUNS = 20
TESTS = "tests that train"
#: The condition that chapters choose themselves.
UNCHANGED = "threads-1"
#: Standard deviations between the mean of what is measured and its bound.
LEAST_MARGIN = 4
#: Put into the profile of IPython that the notebooks' kernels start with.
STARTUP = """
from benchmarks.perturbation import perturb_cells
perturb_cells(get_ipython())
del perturb_cells
"""


class Condition(NamedTuple):
    """One way to run everything."""

    kind: str
    """`processor`, `noise` or `seeds`."""
    name: str
    variable: str
    """Of the environment; it has `value`."""
    value: str


class Job(NamedTuple):
    """One notebook, or the tests that train, under one condition."""

    condition: Condition
    subject: str


class Outcome(NamedTuple):
    """What a job found."""

    failures: list[str]
    """Tests and cells that failed."""
    claims: list[dict]
    """Comparisons made, each with its text, whether it holds, and its slack, if any."""
    numbers: list[dict]
    """Numbers printed after "≈", each with the line before it."""


def conditions() -> list[Condition]:
    """All conditions that this machine can create."""
    capabilities = ["default", "avx2", "avx512"]
    own = torch.backends.cpu.get_cpu_capability().lower()
    known = capabilities.index(own) + 1 if own in capabilities else 0
    has_mkl, has_onednn = (
        backend.is_available()
        for backend in (torch.backends.mkl, torch.backends.mkldnn)
    )
    processors = [
        ("threads", "ROUNDING_THREADS", ["1", "2"]),
        ("aten", "ATEN_CPU_CAPABILITY", capabilities[:known]),
        ("mkl", "MKL_CBWR", ["COMPATIBLE", "SSE4_2", "AVX2"] * has_mkl),
        ("onednn", "ONEDNN_MAX_CPU_ISA", ["SSE41", "AVX2"] * has_onednn),
    ]
    runs = [str(run) for run in range(1, NUM_RUNS + 1)]
    groups = [("processor", *group) for group in processors]
    groups += [("noise", "noise", "ROUNDING_NOISE", runs)]
    groups += [("seeds", "seeds", "ROUNDING_SEEDS", runs)]
    return [
        Condition(kind, f"{name}-{value.lower()}", variable, value)
        for kind, name, variable, values in groups
        for value in values
    ]


def notebooks() -> dict[str, Path]:
    """All notebooks by name, without the one that shows what is found here."""
    paths = sorted(ROOT.glob("book/*.ipynb"))
    return {path.stem: path for path in paths if path.stem != "measured"}


def jobs(chosen: Iterable[Condition], subjects: Iterable[str]) -> list[Job]:
    """Every subject under every condition that concerns it."""
    return [
        Job(condition, subject)
        for condition in chosen
        for subject in subjects
        # What a test asserts it asserts of its own seeds.
        if not (condition.kind == "seeds" and subject == TESTS)
    ]


def run(job: Job) -> Outcome:
    """Run pytest in a process of its own, unless the outcome is known."""
    kept = KEPT / digest(job.subject) / f"{job.condition.name}.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text("utf-8")))
    with tempfile.TemporaryDirectory() as directory:
        outcome = run_pytest(job, Path(directory))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(outcome._asdict()), "utf-8")
    mark = "held" if not outcome.failures else f"FAILED: {outcome.failures}"
    print(f"{job.condition.name:16}{job.subject:26}{mark}", flush=True)
    return outcome


def run_pytest(job: Job, directory: Path) -> Outcome:
    """Run one job; `directory` is for what pytest and the kernel write."""
    startup = directory / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-perturb.py").write_text(STARTUP, "utf-8")
    report, log = directory / "report.xml", directory / "claims.jsonl"
    if job.subject == TESTS:
        arguments = ["-m", "trains", "tests"]
    else:
        lax = job.condition.kind == "seeds"
        arguments = ["--nbval-lax" if lax else "--nbval", notebooks()[job.subject]]
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.perturbation"),
            *("-p", "no:cacheprovider", f"--junitxml={report}"),
            # The newer family has no place for what tests record.
            *("-o", "junit_family=xunit1", *arguments),
        ],
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": str(directory),
            "OMP_NUM_THREADS": "1",
            # Jobs with two threads each would spin on the cores that they wait for.
            "OMP_WAIT_POLICY": "PASSIVE",
            "ROUNDING_LOG": str(log),
            job.condition.variable: job.condition.value,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode not in (0, 1):
        sys.exit(f"{job} could not be run:\n{finished.stdout}{finished.stderr}")
    cases = list(ET.parse(report).iter("testcase"))
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    entries = list(map(json.loads, lines))
    return Outcome(
        failures=[
            case.get("name")
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        ],
        claims=[
            *(entry for entry in entries if "claim" in entry),
            *map(recorded, properties(cases)),
        ],
        numbers=[entry for entry in entries if "line" in entry],
    )


def properties(cases: list[ET.Element]) -> list[ET.Element]:
    """What tests have noted with pytest's `record_property`."""
    return [found for case in cases for found in case.iter("property")]


def recorded(found: ET.Element) -> dict:
    """A test's note of what it measured and its bound, as a claim."""
    measured, bound = map(float, found.get("value").split(" > "))
    slack = measured - bound
    return {"claim": found.get("name"), "holds": slack > 0, "slack": slack}


@functools.cache
def digest(subject: str) -> str:
    """What the outcome of a subject depends on, in a few letters."""
    parts = [torch.__version__.encode()]
    sources = [ROOT.glob("transformer/**/*.py"), [ROOT / "benchmarks/perturbation.py"]]
    if subject == TESTS:
        sources.append(ROOT.glob("tests/*.py"))
    parts += [path.read_bytes() for paths in sources for path in sorted(paths)]
    if subject != TESTS:
        notebook = nbformat.read(notebooks()[subject], as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        parts += [json.dumps(cells, sort_keys=True).encode()]
    return f"{subject}-{hashlib.sha256(b''.join(parts)).hexdigest()[:12]}".replace(
        " ", "-"
    )


def margins(outcomes: list[Outcome]) -> dict[str, float]:
    """How far every claim is from failing that varies over the runs.

    Mean over standard deviation of the slack, of `NUM_RUNS` runs at least: fewer do not
    tell the deviation. Of what is claimed several times in a run, the smallest counts. What
    the book says is False has a negative one.
    """
    slacks = defaultdict(list)
    for outcome in outcomes:
        smallest: dict[str, float] = {}
        for claim in outcome.claims:
            text, slack = claim["claim"], claim["slack"]
            if slack is not None:
                smallest[text] = min(slack, smallest.get(text, slack))
        for text, slack in smallest.items():
            slacks[text].append(slack)
    return {
        text: abs(statistics.mean(values)) / statistics.stdev(values)
        for text, values in slacks.items()
        if len(values) >= NUM_RUNS and len(set(values)) > 1
    }


def ranges(outcomes: list[Outcome]) -> dict[str, list[float]]:
    """The lowest and the highest value of every number printed after "≈"."""
    values = defaultdict(list)
    for outcome in outcomes:
        for number in outcome.numbers:
            values[number["line"]].append(number["value"])
    return {line: [min(found), max(found)] for line, found in values.items()}


def contradictions(plain: Outcome, other: Outcome) -> list[str]:
    """Claims that come out differently from the run without any change.

    Of what is claimed in one of two cases, the other case is no contradiction.
    """
    expected = {(claim["claim"], claim["holds"]) for claim in plain.claims}
    found = {(claim["claim"], claim["holds"]) for claim in other.claims}
    known = {claim for claim, _ in expected}
    return sorted(claim for claim, _ in found - expected if claim in known)


def describe(subject: str, outcomes: dict[Job, Outcome]) -> dict:
    """What is stored of a subject."""
    own = {job.condition: o for job, o in outcomes.items() if job.subject == subject}
    plain = next((o for c, o in own.items() if c.name == UNCHANGED), None)
    summary = {"subject": subject}
    for kind in ("processor", "noise", "seeds"):
        of_kind = {c.name: o for c, o in own.items() if c.kind == kind}
        failures = {
            name: outcome.failures
            # Where outputs are compared, a claim that is no longer True has failed there.
            + (contradictions(plain, outcome) if kind == "seeds" else [])
            for name, outcome in of_kind.items()
        }
        summary[kind] = {
            "runs": len(of_kind),
            "failed": {name: found for name, found in failures.items() if found},
        }
        if kind != "processor":
            summary[kind]["margins"] = margins(list(of_kind.values()))
    summary["ranges"] = ranges([o for c, o in own.items() if c.kind == "seeds"])
    return summary


def closest(summary: dict) -> tuple[str, float] | None:
    """The claim with the smallest margin, over noise and seeds."""
    found = [*summary["noise"]["margins"].items(), *summary["seeds"]["margins"].items()]
    return min(found, key=lambda item: item[1], default=None)


def report(summaries: list[dict]) -> bool:
    """Print a line a subject; say whether everything held with the margin wanted."""
    print(f"\n{'':20}{'processor':>12}{'noise':>12}{'seeds':>12}  smallest margin")
    is_sound = True
    for summary in summaries:
        held = [
            f"{summary[kind]['runs'] - len(summary[kind]['failed'])} of "
            f"{summary[kind]['runs']}"
            for kind in ("processor", "noise", "seeds")
        ]
        claim, margin = closest(summary) or ("none known", math.inf)
        text = f"{margin:.1f}: {claim}"
        print(f"{summary['subject']:26}{''.join(f'{h:>12}' for h in held)}  {text}")
        for kind in ("processor", "noise", "seeds"):
            for name, found in summary[kind]["failed"].items():
                is_sound = False
                print(f"    {name}: {found}")
        is_sound &= margin >= LEAST_MARGIN
    return is_sound


def updated(stored: list[dict], new: list[dict], subjects: list[str]) -> list[dict]:
    """What is stored of every subject that there is: what is new, else what it was."""
    known = {summary["subject"]: summary for summary in [*stored, *new]}
    return [known[subject] for subject in subjects if subject in known]


def main() -> int:
    """Run everything, or what is asked for; store it if asked to."""
    every_condition, every_subject = conditions(), [TESTS, *notebooks()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [condition.name for condition in every_condition]
    parser.add_argument("--conditions", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--subjects", nargs="+", choices=every_subject, default=every_subject
    )
    parser.add_argument("--store", action="store_true")
    asked = parser.parse_args()
    chosen = [c for c in every_condition if c.name in asked.conditions]
    if any(condition.kind == "seeds" for condition in chosen):
        # What claims are compared with.
        chosen = [c for c in every_condition if c in chosen or c.name == UNCHANGED]
    to_do = jobs(chosen, asked.subjects)
    with ThreadPoolExecutor(machine()["cores"]) as pool:
        outcomes = dict(zip(to_do, pool.map(run, to_do), strict=True))
    summaries = [describe(subject, outcomes) for subject in asked.subjects]
    is_sound = report(summaries)
    if asked.store:
        kept = updated(read_results("rounding")["subjects"], summaries, every_subject)
        write_results(
            "rounding", ["torch", "numpy"], {"noise": NOISE, "subjects": kept}
        )
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
