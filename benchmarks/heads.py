"""How many heads, at equal parameters: 1, 2, 4, 8 and 16, on two tasks.

The number of heads cuts the same projections into more or fewer slices, so every model of a
task has the same parameters. Chapter 9's model and its optimizer learn addition, in the
chapter's number of steps, and to read number words, in fewer. Five seeds each, which decide
the split, the first weights and the order of the examples.

Counted at the exams, decoded greedily: the share of right answers, of all 10,000 sums, and
of the 1,000 numbers below 10,000 whose words were held out. Timed: training, in seconds of
the processor. Other runs at the same time make it longer, so compare within a task only.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks import number_words
from benchmarks.learning import build_update
from benchmarks.measure import machine, write_results
from benchmarks.two_tasks import RECIPE, Task, share_right, tasks
from transformer import (
    END,
    START,
    Transformer,
    count_parameters,
    train_step,
)

HEADS = (1, 2, 4, 8, 16)
SEEDS = range(5)
EXAMPLES = (7, 42, 90, 813, 4_019)
TASKS = tasks((200, 300, 400, 800, RECIPE.num_steps), (50, 100, 150, 200, 300, 500))


def run(task: Task, num_heads: int, seed: int, num_steps: int) -> dict:
    """Train with `num_heads` heads, at most `num_steps` steps; ask at each exam."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes, batches, asked = task.prepare(generator)
    model = Transformer(**RECIPE.sizes | sizes | {"num_heads": num_heads})
    update = build_update(RECIPE._replace(num_steps=task.num_steps), model)
    seconds, right = 0.0, {}
    for step in range(1, min(task.num_steps, num_steps) + 1):
        batch = next(batches)
        start = time.process_time()
        train_step(model, batch, update)
        seconds += time.process_time() - start
        if step in task.exams:
            length = asked.tgt_out.size(1) + 1
            decoded = model.greedy_decode(asked.src, length, START, END)
            right[step] = share_right(decoded, asked)
    result = {"seed": seed, "right": right, "cpu_seconds": seconds}
    print(task.name, num_heads, "heads", result, flush=True)
    return result | {"parameters": count_parameters(model)}


def collect(num_steps: int, seeds: range = SEEDS) -> dict:
    """Run everything, one run per core; what is stored."""
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        runs = {
            (task.name, heads, seed): pool.submit(run, task, heads, seed, num_steps)
            for seed in seeds
            for task in TASKS
            for heads in HEADS
        }
    found = {key: future.result() for key, future in runs.items()}
    return {
        "threads": 1,
        "examples": [
            {"words": number_words.in_words(number), "digits": str(number)}
            for number in EXAMPLES
        ],
        "tasks": [
            {
                "task": task.name,
                "steps": task.num_steps,
                "parameters": sorted(
                    {f["parameters"] for k, f in found.items() if k[0] == task.name}
                ),
                "heads": [
                    {
                        "heads": heads,
                        "runs": [
                            {
                                key: value
                                for key, value in found[task.name, heads, seed].items()
                                if key != "parameters"
                            }
                            for seed in seeds
                        ],
                    }
                    for heads in HEADS
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
        write_results("heads", ["torch"], results)


if __name__ == "__main__":
    main()
