"""Number words, as a task of the benchmarks."""

import pytest
import torch

from benchmarks import number_words
from transformer import END, PAD, START


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (42, "forty two"),
        (100, "one hundred"),
        (119, "one hundred nineteen"),
        (2_000, "two thousand"),
        (7_005, "seven thousand five"),
        (9_999, "nine thousand nine hundred ninety nine"),
        (342_017, "three hundred forty two thousand seventeen"),
    ],
)
def test_a_number_is_written_in_words(number, words):
    assert number_words.in_words(number) == words


def test_no_two_numbers_have_the_same_words():
    assert len({number_words.in_words(number) for number in range(10_000)}) == 10_000


def test_a_batch_holds_letters_and_digits():
    batch = number_words.to_batch([42, 7])
    alphabet = number_words.LETTERS
    assert batch.src.shape == (2, len("forty two"))
    assert "".join(alphabet[i - 3] for i in batch.src[0].tolist()) == "forty two"
    assert batch.src[1].tolist()[5:] == [PAD] * 4
    assert batch.tgt_in.tolist() == [[START, 7, 5], [START, 10, PAD]]
    assert batch.tgt_out.tolist() == [[7, 5, END], [10, END, PAD]]


def test_held_out_numbers_are_never_trained_on():
    generator = torch.Generator().manual_seed(0)
    seen, held_out = number_words.split(100, 10, generator)
    assert len(held_out) == 10
    assert sorted(seen + held_out) == list(range(100))
    first = next(number_words.batches(seen, 90, generator))
    assert len({tuple(row) for row in first.src.tolist()}) == 90
