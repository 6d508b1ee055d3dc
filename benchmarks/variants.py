"""Ways to train a model on arithmetic, each described by what differs from chapter 9's.

A `Variant` says all of it in numbers and words, so that a run can be kept by it. Trained is
on all pairs but those held out, which are held out in both orders.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks import modern
from benchmarks.learning import (
    SMALL,
    Update,
    backwards,
    build_adamw,
    build_muon,
    one_cycle,
)
from benchmarks.measure import kept
from transformer import END, START, AdditionTask, Batch, Transformer, train_step

NUM_ASKED = 1_000
"""How many held-out pairs an exam on the way asks."""
NUM_OF_CHAIN = 200
"""How many pairs with each length of the carry chain are held out, from three digits on."""
MINUS = AdditionTask.vocab_size
"""The token that only differences need."""


class Variant(NamedTuple):
    """What to train, how, and on what. Whatever is not said is as in chapter 9."""

    name: str
    sizes: tuple[tuple[str, float], ...] = ()
    """Arguments of `Transformer`."""
    modern: tuple[str, ...] = ()
    """Parts of today, by their functions in `benchmarks.modern`."""
    optimizer: str = "AdamW"
    learning_rate: float = 3e-3
    has_cycle: bool = True
    """Whether the learning rate rises and falls; else it stays."""
    is_averaged: bool = False
    """Whether exams ask a running average of the weights."""
    batch_size: int = 64
    num_examples: int = 115_200
    exam_every: int = 3_200
    """So many examples lie between two exams."""
    diet: str = "shuffled"
    num_pairs: int | None = None
    """How many pairs to train on; None means all that are not held out."""
    num_digits: int = 2
    writing: str = "sum"

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.num_examples // self.batch_size


def columns(pairs: Tensor, num_digits: int) -> list[Tensor]:
    """What one writes down when adding by hand: of each column, carry and digit.

    Returns:
        Units first, `[carry, digit, carry, digit, …]`, each `[batch]`.
    """
    carry, written = 0, []
    for place in range(num_digits):
        column = (pairs // 10**place % 10).sum(dim=1) + carry
        carry = column // 10
        written += [carry, column % 10]
    return written


def carry_chain(pairs: Tensor, num_digits: int) -> Tensor:
    """Through how many columns the longest carry of each sum travels.

    It begins where two digits make 10 or more, and goes on while they make 9.
    """
    longest = chain = torch.zeros(len(pairs), dtype=torch.int64)
    for place in range(num_digits):
        column = (pairs // 10**place % 10).sum(dim=1)
        goes_on = torch.where((column == 9) & (chain > 0), chain + 1, 0)
        chain = torch.where(column > 9, 1, goes_on)
        longest = torch.maximum(longest, chain)
    return longest


def to_batch(src: Tensor, digits: Tensor) -> Batch:
    """Source tokens and target tokens, with START and END."""
    start, end = (torch.full((len(src), 1), token) for token in (START, END))
    return Batch(src, torch.cat([start, digits], 1), torch.cat([digits, end], 1))


def write_sum(task: AdditionTask, pairs: Tensor) -> Batch:
    """`57+26` → `083`."""
    return task.make_batch(pairs)


def write_sorted(task: AdditionTask, pairs: Tensor) -> Batch:
    """The smaller number first: `26+57` → `083`."""
    return task.make_batch(pairs.sort(dim=1).values)


def write_backwards(task: AdditionTask, pairs: Tensor) -> Batch:
    """`57+26` → `380`."""
    return backwards(task.make_batch(pairs))


def write_scratchpad(task: AdditionTask, pairs: Tensor) -> Batch:
    """Carry and digit of each column, units first, then the sum: `57+26` → `1308083`."""
    written = columns(pairs, task.num_digits)
    total = [written[-2], *written[::-2]]
    digits = torch.stack([*written, *total], dim=1) + task.FIRST_DIGIT
    return to_batch(task.make_batch(pairs).src, digits)


def write_difference(task: AdditionTask, pairs: Tensor) -> Batch:
    """`26-57` → `-31`; what is not below zero begins with a plus."""
    src = task.make_batch(pairs).src.clone()
    src[src == task.PLUS] = MINUS
    difference = pairs[:, 0] - pairs[:, 1]
    sign = torch.where(difference < 0, MINUS, task.PLUS)
    powers = 10 ** torch.arange(task.num_digits - 1, -1, -1)
    digits = difference.abs()[:, None] // powers % 10 + task.FIRST_DIGIT
    return to_batch(src, torch.cat([sign[:, None], digits], dim=1))


WRITINGS: dict[str, Callable[[AdditionTask, Tensor], Batch]] = {
    "sum": write_sum,
    "sorted": write_sorted,
    "units first": write_backwards,
    "scratchpad": write_scratchpad,
    "difference": write_difference,
}


def rounds(pairs: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Go through `pairs` again and again, shuffled anew, `size` at a time."""
    while True:
        shuffled = pairs[torch.randperm(len(pairs), generator=generator)]
        yield from (part for part in shuffled.split(size) if len(part) == size)


def mirrored(variant: Variant, seen: Tensor, generator: torch.Generator) -> Iterator:
    """Each batch holds every pair of it in both orders."""
    for half in rounds(seen, variant.batch_size // 2, generator):
        yield torch.cat([half, half.flip(1)])


def one_order(variant: Variant, seen: Tensor, generator: torch.Generator) -> Iterator:
    """No pair whose first number is the larger one."""
    in_order = seen[seen[:, 0] <= seen[:, 1]]
    return rounds(in_order, variant.batch_size, generator)


def easy_first(variant: Variant, seen: Tensor, generator: torch.Generator) -> Iterator:
    """Pairs without a carry for a fifth of the steps, then all."""
    easy = seen[carry_chain(seen, variant.num_digits) == 0]
    start = rounds(easy, variant.batch_size, generator)
    yield from itertools.islice(start, variant.num_steps // 5)
    yield from rounds(seen, variant.batch_size, generator)


def shuffled(variant: Variant, seen: Tensor, generator: torch.Generator) -> Iterator:
    """All pairs in random order."""
    return rounds(seen, variant.batch_size, generator)


DIETS = {
    "shuffled": shuffled,
    "mirrored": mirrored,
    "one order": one_order,
    "easy first": easy_first,
}


class Pairs(NamedTuple):
    """What is trained on, what is asked on the way, and what at the end."""

    seen: Tensor
    asked: Tensor
    asked_at_the_end: Tensor
    by_chain: list[Tensor]
    """Pairs with a carry chain of 0, 1, …; all held out, from three digits on."""


def choose_pairs(variant: Variant, generator: torch.Generator) -> Pairs:
    """The split that a seed makes; with two digits, chapter 9's, and all are asked."""
    task = AdditionTask(variant.num_digits)
    lengths = range(task.num_digits + 1)
    if task.num_digits <= 2:
        seen, held_out = task.split(NUM_ASKED, generator)
        everything = task.all_pairs()
        chain = carry_chain(everything, task.num_digits)
        by_chain = [everything[chain == length] for length in lengths]
    else:
        pool = task.draw(300_000 * (task.num_digits - 2), generator)
        everything, rest = pool[:10_000], pool[10_000:]
        held_out = everything[:NUM_ASKED]
        chain = carry_chain(rest, task.num_digits)
        rows = [(chain == n).nonzero()[:NUM_OF_CHAIN, 0] for n in lengths]
        by_chain = [rest[of_length] for of_length in rows]
        is_seen = torch.ones(len(rest), dtype=torch.bool)
        is_seen[torch.cat(rows)] = False
        seen = rest[is_seen]
    return Pairs(seen[: variant.num_pairs], held_out, everything, by_chain)


def build_model(variant: Variant) -> Transformer:
    """Chapter 9's model with the variant's sizes and parts."""
    vocab_size = MINUS + (variant.writing == "difference")
    model = Transformer(vocab_size, vocab_size, **SMALL | dict(variant.sizes))
    for part in variant.modern:
        getattr(modern, f"with_{part}")(model)
    return model


def build_adam(model: Transformer, learning_rate: float) -> list[Optimizer]:
    """Adam with PyTorch's settings."""
    return [Adam(model.parameters(), lr=learning_rate)]


OPTIMIZERS = {"Adam": build_adam, "AdamW": build_adamw, "Muon": build_muon}


def build_update(variant: Variant, model: Transformer) -> Update:
    """The variant's optimizers and their schedules."""
    optimizers = OPTIMIZERS[variant.optimizer](model, variant.learning_rate)
    if not variant.has_cycle:
        # A cycle that is only made has already set the learning rate to its first one.
        return Update(optimizers, [])
    return Update(
        optimizers, [one_cycle(each, variant.num_steps) for each in optimizers]
    )


def answer(variant: Variant, tokens: Tensor) -> Tensor:
    """The digits that count in targets with END, highest place first."""
    digits = tokens[:, -2 - variant.num_digits : -1]
    return digits.flip(1) if variant.writing == "units first" else digits


def right_digits(variant: Variant, model: Transformer, pairs: Tensor) -> Tensor:
    """Which digits of which answers are right, decoded greedily: `[pairs, places]`.

    A row that does not end where it must has no right digit.
    """
    batch = WRITINGS[variant.writing](AdditionTask(variant.num_digits), pairs)
    width = batch.tgt_out.size(1)
    tokens = model.greedy_decode(batch.src, width + 1, START, END)[:, 1:]
    tokens = F.pad(tokens, (0, width - tokens.size(1)))
    ends = (tokens == END) == (batch.tgt_out == END)
    right = answer(variant, tokens) == answer(variant, batch.tgt_out)
    return right & ends.all(dim=1, keepdim=True)


def share_right(variant: Variant, model: Transformer, pairs: Tensor) -> float:
    """The share of `pairs` answered without a mistake."""
    return right_digits(variant, model, pairs).all(dim=1).double().mean().item()


@kept
def run(variant: Variant, seed: int, num_steps: int) -> dict:
    """Train `num_steps` steps with one seed; examine on the way and at the end."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = choose_pairs(variant, generator)
    model = build_model(variant)
    update = build_update(variant, model)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    asked_model = averaged.module if variant.is_averaged else model
    task, write = AdditionTask(variant.num_digits), WRITINGS[variant.writing]
    diet = DIETS[variant.diet](variant, pairs.seen, generator)

    on_the_way, cpu_seconds = [], 0.0
    for step, chosen in enumerate(itertools.islice(diet, num_steps), start=1):
        began = time.process_time()
        train_step(model, write(task, chosen), update)
        if variant.is_averaged:
            averaged.update_parameters(model)
        cpu_seconds += time.process_time() - began
        if step * variant.batch_size % variant.exam_every == 0:
            on_the_way.append(share_right(variant, asked_model, pairs.asked))

    right = right_digits(variant, asked_model, pairs.asked_at_the_end)
    result = {
        "seed": seed,
        "held_out_right": on_the_way,
        "all_right": int(right.all(dim=1).sum()),
        "right_by_place": right.double().mean(dim=0).tolist(),
        "right_by_chain": [
            share_right(variant, asked_model, of_length) for of_length in pairs.by_chain
        ],
        "milliseconds_per_step": 1_000 * cpu_seconds / num_steps,
    }
    print(variant.name, result, flush=True)
    return result
