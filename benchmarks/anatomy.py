"""What each part of the model is for, on two tasks: addition, and reading number words.

One part is taken away before training, as in `benchmarks.parts`, and chapter 9's model and
optimizer learn the task without it: addition in the chapter's number of steps, number words
in fewer. Five seeds each, which decide the split, the first weights and the order of the
examples.

Counted at the exams, decoded greedily: the share of right answers, of all 10,000 sums, and
of the 1,000 numbers below 10,000 whose words were held out.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch

from benchmarks import number_words
from benchmarks.learning import RECIPES, build_update
from benchmarks.measure import machine, write_results
from benchmarks.parts import PARTS, Part, take_away
from transformer import END, START, AdditionTask, Batch, Transformer, train_step
from transformer.decoding import decode_uncached

RECIPE = RECIPES[0]
SEEDS = range(5)
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


TASKS = [
    Task("addition", RECIPE.num_steps, (400, RECIPE.num_steps), addition),
    Task("number words", 500, (200, 500), words),
]


def bags_of_letters() -> set[str]:
    """The letters of each number's words, in alphabetical order.

    Who does not know where a letter stands sees no more than this.
    """
    return {"".join(sorted(number_words.in_words(number))) for number in range(LIMIT)}


def share_right(model: Transformer, asked: Batch) -> float:
    """The share of `asked` that greedy decoding answers without a mistake."""
    width = asked.tgt_out.size(1)
    # What decoding with a cache takes for granted, some of these models do not have.
    tokens = decode_uncached(model, asked.src, width + 1, START, END)[:, 1:]
    tokens = torch.nn.functional.pad(tokens, (0, width - tokens.size(1)))
    return (tokens == asked.tgt_out).all(dim=1).float().mean().item()


def run(task: Task, part: Part, seed: int, num_steps: int) -> dict:
    """Train without `part`, at most `num_steps` steps; ask at each exam."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes, batches, asked = task.prepare(generator)
    model = Transformer(**RECIPE.sizes | sizes)
    take_away(part, model)
    update = build_update(RECIPE._replace(num_steps=task.num_steps), model)
    right = {}
    for step in range(1, min(task.num_steps, num_steps) + 1):
        train_step(model, next(batches), update)
        if step in task.exams:
            right[step] = share_right(model, asked)
    result = {"seed": seed, "right": right}
    print(task.name, "without", part.name, result, flush=True)
    return result


def collect(num_steps: int, seeds: range = SEEDS) -> dict:
    """Run everything, one run per core; what is stored."""
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        runs = {
            (seed, task.name, part.name): pool.submit(run, task, part, seed, num_steps)
            for seed in seeds
            for task in TASKS
            for part in PARTS
        }
    return {
        "threads": 1,
        "bags_of_letters": len(bags_of_letters()),
        "tasks": [
            {
                "task": task.name,
                "exams": task.exams,
                "parts": [
                    {
                        "without": part.name,
                        "runs": [
                            runs[seed, task.name, part.name].result() for seed in seeds
                        ],
                    }
                    for part in PARTS
                ],
            }
            for task in TASKS
        ],
    }


def main() -> None:
    """Run everything; store, unless it was a trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--steps", type=int, help="stop each run after so many steps, and store nothing"
    )
    trial = parser.parse_args().steps
    results = collect(trial or max(task.num_steps for task in TASKS))
    if trial is None:
        write_results("anatomy", ["torch"], results)


if __name__ == "__main__":
    main()
