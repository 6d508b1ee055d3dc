"""English number words to digits: `forty two` → `42`, letter by letter.

The words come from the grammar in `transformer.numerals`.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch

from transformer import Batch
from transformer.batching import make_batch
from transformer.numerals import english as in_words
from transformer.tokens import FIRST_TASK_TOKEN

LETTERS = " abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
SRC_VOCAB_SIZE = FIRST_TASK_TOKEN + len(LETTERS)
TGT_VOCAB_SIZE = FIRST_TASK_TOKEN + len(DIGITS)


def to_batch(numbers: Sequence[int]) -> Batch:
    """Words as source, digits without leading zeros as target."""
    return make_batch(
        [_ids(in_words(number), LETTERS) for number in numbers],
        [_ids(str(number), DIGITS) for number in numbers],
    )


def split(
    limit: int, num_held_out: int, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """`(seen, held_out)`: the numbers below `limit`, shuffled and cut in two."""
    numbers = torch.randperm(limit, generator=generator).tolist()
    return numbers[num_held_out:], numbers[:num_held_out]


def batches(
    numbers: Sequence[int], batch_size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Random batches without end; within one, no number comes twice."""
    for _ in itertools.count():
        chosen = torch.randperm(len(numbers), generator=generator)[:batch_size]
        yield to_batch([numbers[row] for row in chosen.tolist()])


def _ids(text: str, alphabet: str) -> list[int]:
    return [FIRST_TASK_TOKEN + alphabet.index(character) for character in text]
