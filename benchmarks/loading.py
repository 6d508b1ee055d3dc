"""How fast batches of pairs come, and what memory they take: `make benchmark-loading`.

A file of random pairs, each of two words of 1 to 20 letters, is indexed and read for some
steps. Every size has a process of its own, which reports its peak memory beyond what the
libraries take. `python -m benchmarks.loading --pairs 1000 100000` runs smaller sizes and
stores nothing.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import write_results
from transformer.loading import endless, load_pairs
from transformer.pairs import PairFile, PairFormat
from transformer.vocabulary import Vocabulary

SIZES = [10_000, 100_000, 1_000_000]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_TOKENS = 2000
STEPS = 200
FORM = PairFormat(source_separator="", target_separator="")


def write_pairs(path: Path, count: int) -> None:
    """Random words, two a line."""
    random = np.random.default_rng(0)
    lengths = random.integers(1, 21, (count, 2))
    letters = random.integers(ord("a"), ord("z") + 1, lengths.sum(), dtype=np.uint8)
    words = iter(np.split(letters, lengths.flatten().cumsum()[:-1]))
    with path.open("wb") as file:
        for source, target in zip(words, words, strict=True):
            file.write(b"%b\t%b\n" % (source.tobytes(), target.tobytes()))


def resident_memory(name: str) -> float:
    """Of this process on Linux, in MiB: "VmRSS" is what it takes now, "VmHWM" the peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 2**10


def measure(path: Path) -> dict[str, float]:
    """Index the file, then read some steps from the middle of the third epoch."""
    letters = Vocabulary(list(LETTERS))
    before = resident_memory("VmRSS")
    start = time.process_time()
    pairs = PairFile(path, letters, letters, FORM)
    indexed = time.process_time()
    loader = load_pairs(pairs, MAX_TOKENS)
    batches = endless(loader, 5 * len(loader) // 2)
    next(batches)
    begun = time.process_time()
    padded = real = 0
    for batch in itertools.islice(batches, STEPS):
        padded += batch.src.numel() + batch.tgt_out.numel()
        real += int((batch.src != 0).sum() + (batch.tgt_out != 0).sum())
    seconds = time.process_time() - begun
    return {
        "pairs": len(pairs),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds to index": round(indexed - start, 2),
        "seconds to the first batch": round(begun - indexed, 2),
        "tokens a second": round(real / seconds),
        "share of padding": round(1 - real / padded, 4),
        "MiB beyond the libraries": round(resident_memory("VmHWM") - before, 1),
    }


def main() -> None:
    """Measure every size; store the results if none was named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", metavar="N")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.pairs or SIZES:
            path = Path(folder) / f"{count}.tsv"
            write_pairs(path, count)
            command = [sys.executable, "-m", "benchmarks.loading", "--measure", path]
            rows.append(json.loads(subprocess.check_output(command)))
            print(json.dumps(rows[-1]), flush=True)
    if not arguments.pairs:
        settings = {"max_tokens": MAX_TOKENS, "steps": STEPS}
        write_results("loading", ["torch", "numpy"], {**settings, "sizes": rows})


if __name__ == "__main__":
    main()
