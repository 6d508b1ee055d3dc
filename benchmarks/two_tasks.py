"""Two tasks for chapter 9's model: addition, and reading number words.

Every sum is asked, and of the numbers below 10,000 the 1,000 whose words were held out.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import number_words
from benchmarks.learning import RECIPES
from transformer import AdditionTask, Batch

RECIPE = RECIPES[0]
LIMIT = 10_000


class Task(NamedTuple):
    """What is learned, for how long, and when it is examined."""

    name: str
    num_steps: int
    exams: tuple[int, ...]
    prepare: Callable


class Prepared(NamedTuple):
    """What a run needs of its task."""

    sizes: dict
    batches: Iterator[Batch]
    asked: Batch
    """All examples of the exam."""


def addition(generator: torch.Generator) -> Prepared:
    """Chapter 9's sums, every pair asked."""
    task = AdditionTask(num_digits=2)
    seen, _ = task.split(1_000, generator)
    sizes = {"src_vocab_size": task.vocab_size, "tgt_vocab_size": task.vocab_size}
    batches = task.batches(seen, RECIPE.batch_size, generator)
    return Prepared(sizes, batches, task.make_batch(task.all_pairs()))


def words(generator: torch.Generator) -> Prepared:
    """Number words, letter by letter; asked are those held out."""
    seen, held_out = number_words.split(LIMIT, LIMIT // 10, generator)
    sizes = {
        "src_vocab_size": number_words.SRC_VOCAB_SIZE,
        "tgt_vocab_size": number_words.TGT_VOCAB_SIZE,
        "max_len": 64,
    }
    batches = number_words.batches(seen, RECIPE.batch_size, generator)
    return Prepared(sizes, batches, number_words.to_batch(held_out))


def tasks(
    exams_of_sums: tuple[int, ...], exams_of_words: tuple[int, ...]
) -> list[Task]:
    """Both, with the steps after which they are examined; the last ends the training."""
    return [
        Task("addition", exams_of_sums[-1], exams_of_sums, addition),
        Task("number words", exams_of_words[-1], exams_of_words, words),
    ]


def share_right(decoded: Tensor, asked: Batch) -> float:
    """The share of `asked` whose decoded tokens, START first, are right as a whole."""
    answers = decoded[:, 1:]
    missing = asked.tgt_out.size(1) - answers.size(1)
    answers = torch.nn.functional.pad(answers, (0, missing))
    return (answers == asked.tgt_out).all(dim=1).float().mean().item()
