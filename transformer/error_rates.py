"""How far written sequences are from the right ones: error rates of symbols and sequences.

Of phonemes and words these are the phoneme and the word error rate, PER and WER. Edit
distances are counted by RapidFuzz, which comes with the extra `metrics` of the package.
"""

from collections.abc import Sequence
from typing import NamedTuple


class ErrorRates(NamedTuple):
    """Shares; the first can exceed 1 where too much is written."""

    symbols: float
    """Insertions, deletions and substitutions, divided by the symbols of the references."""
    sequences: float
    """The share of sequences with at least one such error."""


def error_rates(
    results: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> ErrorRates:
    """Compare each result with the nearest of its references, the Levenshtein distance.

    Args:
        results: lists of symbols.
        references: as many collections of right answers, each with at least one. Of equally
            near ones the longest counts.

    Raises:
        ModuleNotFoundError: if RapidFuzz is not installed.
        ValueError: if the numbers differ, there is nothing to compare, or something is
            without a reference, naming it.
    """
    from rapidfuzz.distance import Levenshtein

    if len(results) != len(references):
        raise ValueError(f"got {len(results)} results but {len(references)} references")
    errors = length = wrong = 0
    for number, (result, answers) in enumerate(zip(results, references, strict=True)):
        if not answers:
            raise ValueError(f"result {number} has no reference")
        distance, negative_length = min(
            (Levenshtein.distance(result, answer), -len(answer)) for answer in answers
        )
        errors += distance
        length -= negative_length
        wrong += distance > 0
    if length == 0:
        raise ValueError(f"the references of {len(results)} results hold no symbol")
    return ErrorRates(errors / length, wrong / len(results))
