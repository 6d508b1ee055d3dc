"""Thirteen text tasks with one recipe: how long until 99 % are right, and what two need.

Chapter 9's model and optimizer learn each task anew in 200, 400 and 800 steps of 64
examples, each time with the learning rate's whole cycle. Counted: the share of held-out
examples that are answered exactly, decoded greedily, and the steps of the shortest training
at whose end it is 99 %; None where no training reached that. An exam asks 300 different
sources, or all where there are fewer. The last model is also asked other sizes than those
of training.

Needs: reversing and sorting without one part, in whose place a module does nothing.

Subwords: German number words, cut into symbols that byte-pair encoding has learned. Counted
likewise, and timed: training, in seconds of the processor.

Pretraining: a model that has filled gaps in German number words, and a new one, learn the
digits of a few of them; a third learns these for as many steps as the first has had in all.
Counted: the share of held-out words that are right.

Five seeds each, which decide the first weights and the examples. About an hour of the
processor's time in all. Every run that is finished is kept, and need not be repeated.
"""

import argparse
import copy
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.learning import ADAMW, SMALL, Recipe, build_update
from benchmarks.measure import kept, machine, write_results
from benchmarks.parts import PARTS, Part, take_away
from transformer import MultiHeadAttention, Transformer, train_step
from transformer.byte_pairs import learn_byte_pairs
from transformer.decoding import decode_uncached
from transformer.numerals import german
from transformer.text_tasks import (
    DIGITS,
    TEXT_TASKS,
    Pair,
    TextTask,
    fill_gap,
)

SEEDS = range(5)
TRAININGS = (200, 400, 800)
BATCH_SIZE = 64
NUM_ASKED = 300
GOAL = 0.99
SIZES = SMALL | {"max_len": 64}
#: Besides those of training.
OTHER_SIZES = (1, 2, 9, 10, 12)
MERGES = (0, 60)
LABELLED = (30, 60, 120)
PRETRAINING_STEPS, FEW_STEPS = 800, 200

_BY_NAME = {part.name: part for part in PARTS}
NOTHING = _BY_NAME["nothing"]


class Variant(NamedTuple):
    """What is taken away from the model."""

    name: str
    part: Part = NOTHING


VARIANTS = [
    Variant("whole"),
    Variant("no positions", _BY_NAME["positions"]),
    Variant("no self-attention, encoder", _BY_NAME["self-attention of the encoder"]),
    Variant("no self-attention, decoder", _BY_NAME["self-attention of the decoder"]),
]
TASKS_OF_VARIANTS = ("reverse", "sort")
#: What no training can bring to the goal, so that only the longest is tried.
HOPELESS = {("shift by a hidden key", "whole"), ("reverse", "no positions")}

_TASKS = {task.name: task for task in TEXT_TASKS}
_VARIANTS = {variant.name: variant for variant in VARIANTS}


class Uncached:
    """Decodes without a cache, which some of the models do not have."""

    def __init__(self, model: Transformer) -> None:
        """Remember the model."""
        self.model = model

    def greedy_decode(self, src: Tensor, max_len: int, start: int, end: int) -> Tensor:
        """As `Transformer.greedy_decode`."""
        return decode_uncached(self.model, src, max_len, start, end)


def lacks_cache(model: Transformer) -> bool:
    """Whether self-attention of the decoder, which fills the cache, was taken away."""
    attention = model.decoder.layers[0].self_attention
    return not isinstance(attention, MultiHeadAttention)


def build(task: TextTask, variant: Variant) -> Transformer:
    """The model of a task, without what the variant takes away."""
    model = Transformer(task.src_vocab_size, task.tgt_vocab_size, **SIZES)
    take_away(variant.part, model)
    return model


def recipe(num_steps: int) -> Recipe:
    """Chapter 9's optimizer and schedule, for another number of steps."""
    return Recipe("text task", ADAMW, num_steps, BATCH_SIZE, SIZES)


def exam(task: TextTask) -> list[Pair]:
    """The same held-out examples for every seed."""
    return task.exam(NUM_ASKED, torch.Generator().manual_seed(1_000_003))


class Learned(NamedTuple):
    """How the last of several trainings ended."""

    steps: int | None
    """Steps of the shortest training that reached the goal."""
    right: dict[int, float]
    """The share of right answers at the end of each training, by its steps."""
    cpu_seconds_a_step: float
    """Of training, as the processor counts: the median."""


def learn(
    task: TextTask, variant: Variant, seed: int, trainings: Iterable[int]
) -> tuple[Transformer, Learned]:
    """Train anew for more and more steps, until the goal is reached; the last model."""
    torch.set_num_threads(1)
    asked, right = exam(task), {}
    for num_steps in trainings:
        torch.manual_seed(seed)
        model = build(task, variant)
        batches = task.batches(BATCH_SIZE, torch.Generator().manual_seed(seed))
        update = build_update(recipe(num_steps), model)
        seconds = []
        for batch in itertools.islice(batches, num_steps):
            start = time.process_time()
            train_step(model, batch, update)
            seconds.append(time.process_time() - start)
        decoder = Uncached(model) if lacks_cache(model) else model
        right[num_steps] = task.share_right(decoder, asked)
        if right[num_steps] >= GOAL:
            break
    is_learned = right[num_steps] >= GOAL
    return model, Learned(
        num_steps if is_learned else None, right, statistics.median(seconds)
    )


def trainings_for(name: str, variant: str, longest: int) -> list[int]:
    """How many steps each training of a task has, none of them more than `longest`."""
    trainings = [steps for steps in TRAININGS if steps <= longest] or [longest]
    return trainings[-1:] if (name, variant) in HOPELESS else trainings


@kept
def run_task(name: str, variant: str, seed: int, longest: int) -> dict:
    """Train one task with one seed; ask other sizes at the end."""
    task = _TASKS[name]
    trainings = trainings_for(name, variant, longest)
    model, learned = learn(task, _VARIANTS[variant], seed, trainings)
    shares = {}
    if variant == "whole" and has_sizes(task):
        generator = torch.Generator().manual_seed(1_000_003)
        for size in OTHER_SIZES:
            asked = task.exam(NUM_ASKED, generator, held_out=None, sizes=[size])
            shares[size] = task.share_right(model, asked)
    result = {"seed": seed} | learned._asdict() | {"sizes": shares}
    print(name, variant, result, flush=True)
    return result


def has_sizes(task: TextTask) -> bool:
    """Whether examples of one size differ from those of another."""
    generators = [torch.Generator().manual_seed(0) for _ in "12"]
    short, long = (
        task.draw(g, size) for g, size in zip(generators, (2, 7), strict=True)
    )
    return short != long


@kept
def run_subwords(num_merges: int, seed: int, longest: int) -> dict:
    """Train on German number words, cut by byte pairs; without merges, into letters.

    The letters keep their ids: without merges, this is the task of `run_task`.
    """
    words = [german(number) for number in range(1, 1_000)]
    pieces = learn_byte_pairs(words, num_merges)
    task = german_task()
    symbols = list(dict.fromkeys([*task.src_symbols, *pieces.symbols]))
    task = dataclasses.replace(task, src_symbols=symbols, split=pieces.split)
    if num_merges:
        trainings = trainings_for(task.name, "whole", longest)
        learned = learn(task, _VARIANTS["whole"], seed, trainings)[1]._asdict()
    else:
        learned = run_task(task.name, "whole", seed, longest)
    mean_length = statistics.mean(len(pieces.split(word)) for word in words)
    result = {"seed": seed, "mean_length": mean_length} | {
        name: learned[name] for name in Learned._fields
    }
    print(num_merges, "merges", result, flush=True)
    return result


def german_task() -> TextTask:
    """German number words to digits."""
    return _TASKS["German words"]


def gap_tasks() -> tuple[TextTask, TextTask]:
    """Filling gaps, and reading numbers, with the same symbols."""
    task = german_task()
    symbols = {
        "src_symbols": [*task.src_symbols, "A", "B"],
        "tgt_symbols": [*task.src_symbols, "A", "B", *DIGITS],
    }
    return (
        dataclasses.replace(task, name="fill the gap", draw=fill_gap, **symbols),
        dataclasses.replace(task, **symbols),
    )


@kept
def run_pretraining(seed: int, longest: int) -> list[dict]:
    """Fill gaps, then learn to read from few labels; the same from the first weights."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    gaps, reading = gap_tasks()
    new = build(reading, _VARIANTS["whole"])
    pretrained = copy.deepcopy(new)
    practice, steps = min(PRETRAINING_STEPS, longest), min(FEW_STEPS, longest)
    update = build_update(recipe(practice), pretrained)
    batches = gaps.batches(BATCH_SIZE, generator)
    for batch in itertools.islice(batches, practice):
        train_step(pretrained, batch, update)
    asked = exam(reading)
    results = []
    for count in LABELLED:
        labelled = few(reading, count, generator)
        for name, first, num_steps in (
            ("pretrained", pretrained, steps),
            ("new", new, steps),
            ("new, trained longer", new, practice + steps),
        ):
            model = copy.deepcopy(first)
            update = build_update(recipe(num_steps), model)
            order = torch.Generator().manual_seed(seed)
            for _ in range(num_steps):
                rows = torch.randint(count, (BATCH_SIZE // 2,), generator=order)
                batch = reading.make_batch([labelled[row] for row in rows.tolist()])
                train_step(model, batch, update)
            right = reading.share_right(model, asked)
            results.append(
                {"seed": seed, "labelled": count, "model": name, "right": right}
            )
            print(results[-1], flush=True)
    return results


def few(task: TextTask, count: int, generator: torch.Generator) -> list[Pair]:
    """`count` different examples that are not held out."""
    found = {}
    while len(found) < count:
        found.update(task.pairs(1, generator, held_out=False))
    return list(found.items())


def collect(longest: int, seeds: range) -> dict:
    """Run everything, one run per core; what is stored."""
    jobs = [(name, "whole") for name in _TASKS]
    jobs += [
        (name, variant) for variant in list(_VARIANTS)[1:] for name in TASKS_OF_VARIANTS
    ]
    with ProcessPoolExecutor(machine()["cores"]) as pool:

        def each(run: Callable, *arguments: Any) -> list[Future]:
            return [pool.submit(run, *arguments, seed, longest) for seed in seeds]

        learned = {job: each(run_task, *job) for job in jobs}
        pretraining = each(run_pretraining)
        # Waits for the runs in letters, which are read again.
        for futures in learned.values():
            for future in futures:
                future.result()
        subwords = {count: each(run_subwords, count) for count in MERGES}
    return {
        "threads": 1,
        "trainings": TRAININGS,
        "batch_size": BATCH_SIZE,
        "goal": GOAL,
        "sizes_of_training": {
            task.name: [min(task.sizes), max(task.sizes)]
            for task in TEXT_TASKS
            if has_sizes(task)
        },
        "tasks": [
            {
                "task": task,
                "variant": variant,
                "runs": [future.result() for future in futures],
            }
            for (task, variant), futures in learned.items()
        ],
        "subwords": [
            {"merges": count, "runs": [future.result() for future in futures]}
            for count, futures in subwords.items()
        ],
        "pretraining": [run for future in pretraining for run in future.result()],
    }


def main() -> None:
    """Run everything; store, unless it was a trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--longest", type=int, help="no training of more steps, and store nothing"
    )
    trial = parser.parse_args().longest
    results = collect(trial or TRAININGS[-1], SEEDS)
    if trial is None:
        write_results("tasks", ["torch"], results)


if __name__ == "__main__":
    main()
