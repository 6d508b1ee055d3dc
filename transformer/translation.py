"""`python -m transformer evaluate` and `translate`: what a trained model makes of lines."""

import json
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from transformer.batching import pad_sequences
from transformer.beam_search import n_best
from transformer.checkpoint import load_checkpoint
from transformer.commands import VOCABULARIES
from transformer.error_rates import error_rates
from transformer.loading import load_pairs
from transformer.pairs import PairFile, PairFormat, read_pairs
from transformer.runtime import choose_device
from transformer.tokens import END, START
from transformer.training import evaluate
from transformer.transformer import Transformer
from transformer.vocabulary import Vocabulary

_ROWS_AT_ONCE = 64


def _load(folder: Path) -> tuple[Transformer, Vocabulary, Vocabulary, PairFormat]:
    model = load_checkpoint(folder / "model.safetensors", choose_device())
    settings = json.loads((folder / "settings.json").read_text("utf-8"))
    form = PairFormat(settings["source_separator"], settings["target_separator"])
    source, target = (Vocabulary.load(folder / name) for name in VOCABULARIES)
    return model, source, target, form


def translate_lines(arguments: Namespace) -> None:
    """Write the best results of every line that comes in, with the line before each."""
    model, source, target, form = _load(arguments.folder)
    for line, results in _translations(
        model, _sources(sys.stdin, source, form), arguments
    ):
        for result in results:
            text = form.target_separator.join(target.decode(result))
            print(f"{line}\t{text}", flush=True)


def _sources(
    lines: Iterable[str], vocabulary: Vocabulary, form: PairFormat
) -> Iterator[tuple[str, list[int]]]:
    """Each line with its ids."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        try:
            yield text, vocabulary.encode(form.cut("source", text))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None


def _translations(
    model: Transformer,
    sources: Iterable[tuple[str, list[int]]],
    arguments: Namespace,
) -> Iterator[tuple[str, list[list[int]]]]:
    """Each source with the ids of its best results."""
    sources, best = iter(sources), getattr(arguments, "n_best", 1)
    while rows := list(islice(sources, _ROWS_AT_ONCE)):
        src = pad_sequences([ids for _, ids in rows]).to(choose_device())
        tokens, _ = n_best(
            model, src, arguments.max_length, START, END, arguments.beam, 1.0, best
        )
        yield from zip((line for line, _ in rows), tokens.tolist(), strict=True)


def evaluate_on_file(arguments: Namespace) -> None:
    """Print loss and accuracy, and how many sources get an answer that the file has."""
    model, source, target, form = _load(arguments.folder)
    pairs = PairFile(arguments.pairs, source, target, form)
    result = evaluate(model, load_pairs(pairs, 2000))
    print(f"loss {result.loss:.4f} per symbol, {result.accuracy:.2%} of symbols right")
    references = defaultdict(list)
    for words, answer in read_pairs(arguments.pairs, form):
        references[form.source_separator.join(words)].append(answer)
    found = {
        line: target.decode(results[0])
        for line, results in _translations(
            model, _sources(tqdm(references, leave=False), source, form), arguments
        )
    }
    right = sum(found[line] in answers for line, answers in references.items())
    print(f"{right} of {len(references)} sources translated without an error")
    if find_spec("rapidfuzz"):
        rates = error_rates(list(found.values()), list(references.values()))
        print(
            f"error rates: {rates.symbols:.2%} of symbols, {rates.sequences:.2%} of all"
        )
