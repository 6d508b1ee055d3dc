"""Does what the chapters say hold for other random numbers, too?

Every chapter that draws random numbers is executed ten times: once as it stands, and nine
times with other seeds in place of its own. Counted: the lines that say True in the book and
False in a run. Chapters 8 and 9 train the models they look into, so what they measure in
them is stored as well, and chapter 9 runs once more per seed with the processor's plain
instructions, which round differently.
"""

import itertools
import json
import os
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from benchmarks.measure import machine, write_results

ROOT = Path(__file__).parent.parent
NUM_RUNS = 10
# Larger than any seed in the book, so that no two runs share one.
SEED_DISTANCE = 1_000


def measure_copying(chapter: SimpleNamespace) -> dict:
    """What chapter 8 measures in its model, from the names that it defines."""
    ends = chapter.held_out[0].tgt_out == chapter.END
    none, blind, only_itself, decoder_blind = chapter.pale.values()
    return {
        "copied exactly": chapter.is_exact.float().mean().item(),
        "wrong copies": (~chapter.is_exact).sum().item(),
        "wrong copies with a double": (
            (chapter.has_double & ~chapter.is_exact).sum().item()
        ),
        "on the symbol, layer 0": chapter.on_own[0].tolist(),
        "on the symbol, layer 1": chapter.on_own[1].tolist(),
        "on the last symbol for END, layer 1": chapter.on_last.tolist(),
        "encoder, each symbol on itself": chapter.largest_share(0, chapter.is_symbol),
        "encoder, the last symbol on itself": chapter.largest_share(0, chapter.is_last),
        "values of one layer turned": chapter.is_turned.mean().item(),
        "symbols, no edit": chapter.share_right(none),
        "symbols, encoder blind": chapter.share_right(blind),
        "symbols, decoder blind": chapter.share_right(decoder_blind),
        "END, no edit": chapter.share_right(none, ends),
        "END, encoder blind": chapter.share_right(blind, ends),
        "END, encoder only itself": chapter.share_right(only_itself, ends),
        "one head left": chapter.left,
        "backwards, lost without the encoder": chapter.lost,
        "backwards, first symbol wrong": chapter.first_wrong,
    }


def measure_addition(chapter: SimpleNamespace) -> dict:
    """What chapter 9 measures in its model, from the names that it defines."""
    at_the_end = chapter.is_right[chapter.num_steps]
    first_layer = chapter.means[chapter.cross[0]]
    not_the_units = chapter.hide(chapter.cells([0], chapter.UNITS, (4, 5)))
    without_that_look = chapter.right_with(chapter.cross[:1], not_the_units)
    outside, in_the_units, nowhere = chapter.carry_left
    return {
        "all right": at_the_end.sum().item(),
        "seen in no order": chapter.is_new.sum().item(),
        "seen in no order, right": at_the_end[chapter.is_new].sum().item(),
        "right by carries, 400 steps": chapter.after_400,
        "tens without START": chapter.tens_without_start,
        "tens with all keys hidden": chapter.tens_blind,
        "tens with the donor's carry": chapter.shares["decoder fetches"],
        "tens with the own carry": chapter.shares["encoder brings"],
        "on the units in row H, layer 0": (
            first_layer[:, 0, chapter.UNITS].sum(dim=-1).tolist()
        ),
        "tens without that look": without_that_look[1],
        "tens right after wrong hundreds": chapter.tens_right,
        "0 among the wrong tens after a false 1": chapter.share_zero,
        "tens, carry only outside the units": outside,
        "tens, carry only in the units": in_the_units,
        "tens, carry nowhere": nowhere,
    }


MEASURES = {"08_copy": measure_copying, "09_addition": measure_addition}
PRINT_MEASURES = """
import json
from types import SimpleNamespace
from benchmarks.seeds import MEASURES
print(json.dumps(MEASURES["{chapter}"](SimpleNamespace(**globals()))))
"""


def with_other_seeds(source: str, run: int) -> str:
    """A cell that seeds with other numbers; run 0 leaves it as it is."""
    if run == 0:
        return source
    return source.replace("manual_seed(", f"manual_seed({run * SEED_DISTANCE} + ")


def printed(cell: NotebookNode) -> list[str]:
    """The lines a cell has printed."""
    return [
        line
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
        for line in output.text.splitlines()
    ]


def errors(cell: NotebookNode) -> list[str]:
    """The error a cell ended with, if any."""
    return [
        f"{output.ename}: {output.evalue}"
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def truths(line: str) -> list[str]:
    """The truth values in a printed line, in order."""
    return re.findall(r"\b(?:True|False)\b", line)


def contradictions(stored: NotebookNode, executed: NotebookNode) -> list[str]:
    """What the run printed where the book says True, and the run does not."""
    found = []
    for before, after in zip(stored.cells, executed.cells, strict=False):
        if len(errors(after)) > len(errors(before)):
            found += errors(after)
            continue
        lines = itertools.zip_longest(printed(before), printed(after), fillvalue="")
        found += [
            other or f"nothing in place of: {line}"
            for line, other in lines
            if "True" in truths(line) and truths(line) != truths(other)
        ]
    return found


def count_claims(notebook: NotebookNode) -> int:
    """Lines of stored output that say True."""
    lines = itertools.chain.from_iterable(map(printed, notebook.cells))
    return sum("True" in truths(line) for line in lines)


def execute(chapter: str, run: int, instructions: str) -> dict:
    """One chapter with one choice of seeds; `instructions` as PyTorch names them."""
    path = ROOT / "book" / f"{chapter}.ipynb"
    stored, notebook = (nbformat.read(path, as_version=4) for _ in range(2))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = with_other_seeds(cell.source, run)
    if chapter in MEASURES:
        source = PRINT_MEASURES.format(chapter=chapter)
        notebook.cells.append(nbformat.v4.new_code_cell(source))

    environment = dict(os.environ, PYTHONPATH=str(ROOT), TQDM_DISABLE="1")
    if instructions == "plain":
        environment["ATEN_CPU_CAPABILITY"] = "default"
    client = NotebookClient(
        notebook,
        timeout=600,
        # Not to lose what a busy kernel prints late, and not to cut its lines in two.
        iopub_timeout=60,
        raise_on_iopub_timeout=True,
        coalesce_streams=True,
        allow_errors=True,
        resources={"metadata": {"path": path.parent}},
    )
    client.execute(env=environment)

    result = {"run": run, "contradictions": contradictions(stored, notebook)}
    if chapter in MEASURES:
        result["measured"] = json.loads(printed(notebook.cells[-1])[-1])
    print(chapter, instructions, result, flush=True)
    return result


def chapters_with_seeds() -> dict[str, NotebookNode]:
    """The stored chapters that draw random numbers, by name."""
    notebooks = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted(ROOT.glob("book/*.ipynb"))
    }
    return {
        name: notebook
        for name, notebook in notebooks.items()
        if any("manual_seed(" in cell.source for cell in notebook.cells)
    }


def main() -> None:
    """Execute every chapter ten times, one run per core; store."""
    chapters = chapters_with_seeds()
    series = [(name, "native") for name in chapters] + [("09_addition", "plain")]
    jobs = [(name, run, how) for name, how in series for run in range(NUM_RUNS)]
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        runs = pool.map(execute, *zip(*jobs, strict=True))
        results = [
            {
                "chapter": name,
                "instructions": how,
                "claims": count_claims(chapters[name]),
                "runs": list(itertools.islice(runs, NUM_RUNS)),
            }
            for name, how in series
        ]
    write_results(
        "seeds", ["torch"], {"seed_distance": SEED_DISTANCE, "chapters": results}
    )


if __name__ == "__main__":
    main()
