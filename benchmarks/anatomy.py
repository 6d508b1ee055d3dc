"""What each part of the model is for, on two tasks: addition, and reading number words.

One part is taken away before training, as in `benchmarks.parts`, and chapter 9's model and
optimizer learn the task without it: addition in the chapter's number of steps, number words
in fewer. Five seeds each, which decide the split, the first weights and the order of the
examples.

Counted at the exams, decoded greedily: the share of right answers, of all 10,000 sums, and
of the 1,000 numbers below 10,000 whose words were held out.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks import number_words
from benchmarks.learning import build_update
from benchmarks.measure import machine, write_results
from benchmarks.parts import PARTS, Part, take_away
from benchmarks.two_tasks import LIMIT, RECIPE, Task, share_right, tasks
from transformer import END, START, Transformer, train_step
from transformer.decoding import decode_uncached

SEEDS = range(5)
TASKS = tasks((400, RECIPE.num_steps), (200, 500))


def bags_of_letters() -> set[str]:
    """The letters of each number's words, in alphabetical order.

    Who does not know where a letter stands sees no more than this.
    """
    return {"".join(sorted(number_words.in_words(number))) for number in range(LIMIT)}


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
            # A cache takes for granted what some of these models do not have.
            length = asked.tgt_out.size(1) + 1
            decoded = decode_uncached(model, asked.src, length, START, END)
            right[step] = share_right(decoded, asked)
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
