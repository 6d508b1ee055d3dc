"""What addition needs: the parts of the model one by one, and the order of the digits.

Parts: chapter 9's recipe, unchanged, trains the model anew with one part taken away. The
package knows nothing of this: in a model that has been built, a module that does nothing
takes the part's place. Counted on the way and at the end, of all 10,000 pairs, decoded
greedily: the sums that are right, and the hundreds, tens and units that are. The recipe was
found for the whole model: where training without a part fails, another recipe might not.

Orders, for an exercise of the chapter: the same recipe and the whole model, with two digits
and with three, the sum written from the left and from the right, stopped after 800 steps.
Counted, on the way: the share of right sums, of all pairs of two digits, and of 10,000
held-out pairs of three.

Three seeds each, which decide the split, the first weights and the order of the
examples.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.learning import RECIPES, Update, backwards, build_update
from benchmarks.measure import machine, write_results
from transformer import END, START, AdditionTask, Batch, Transformer, train_step
from transformer.add_norm import AddNorm
from transformer.decoding import decode_uncached

RECIPE = RECIPES[0]
SEEDS = range(3)
EXAMS_OF_PARTS = (400, RECIPE.num_steps)
EXAMS_OF_ORDERS = (200, 300, 400, 600, 800)
PLACES = {"hundreds": 100, "tens": 10, "units": 1}


class NoAttention(nn.Module):
    """In the place of an attention module: adds nothing to the stream."""

    def __init__(self, _attention: nn.Module) -> None:
        """Build nothing."""
        super().__init__()

    def forward(self, query: Tensor, *_others: object, **_options: object) -> tuple:
        """Output and weights, as of attention: zeros, and None."""
        return torch.zeros_like(query), None


class NoFeedForward(nn.Module):
    """In the place of a feed-forward network: adds nothing to the stream."""

    def __init__(self, _feed_forward: nn.Module) -> None:
        """Build nothing."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Zeros, `[batch, length, d_model]`."""
        return torch.zeros_like(x)


class NoResidual(nn.Module):
    """In the place of a pre-norm `AddNorm`: its layer norm, without the addition."""

    def __init__(self, add_norm: AddNorm) -> None:
        """Keep the norm of `add_norm`."""
        super().__init__()
        self.norm = add_norm.norm

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """What the sub-layer gives, alone: `[batch, length, d_model]`."""
        return sublayer(self.norm(x))


class NoPositions(nn.Module):
    """In the place of a `PositionalEncoding`: gives back what it is given."""

    def __init__(self, _position_encoding: nn.Module) -> None:
        """Build nothing."""
        super().__init__()

    def forward(self, x: Tensor, _start: int = 0) -> Tensor:
        """`x` as it is."""
        return x


class Part(NamedTuple):
    """A part to take away."""

    name: str
    pattern: str
    """Which names of modules belong to it."""
    replacement: Callable[[nn.Module], nn.Module]
    """Makes of a module of the part what takes its place."""


PARTS = [
    Part("nothing", r"(?!)", nn.Identity),
    Part("self-attention of the encoder", r"encoder\..*\.self_attention", NoAttention),
    Part("self-attention of the decoder", r"decoder\..*\.self_attention", NoAttention),
    Part("cross-attention", r".*\.cross_attention", NoAttention),
    Part("feed-forward networks", r".*\.feed_forward", NoFeedForward),
    Part("residual connections", r".*_add_norm", NoResidual),
    Part("layer norms", r".*\.norm", nn.Identity),
    Part("positions", r"position_encoding", NoPositions),
]


def take_away(part: Part, model: Transformer) -> int:
    """Replace every module of `part` in `model`; how many there were."""
    names = [
        name for name, _ in model.named_modules() if re.fullmatch(part.pattern, name)
    ]
    for name in names:
        model.set_submodule(name, part.replacement(model.get_submodule(name)))
    return len(names)


def count_right(model: Transformer) -> dict[str, int]:
    """Of all 10,000 pairs, how many sums are right, and how many of each digit."""
    task = AdditionTask(num_digits=2)
    pairs = task.all_pairs()
    right = pairs.sum(dim=1)
    # What decoding with a cache takes for granted, some of these models do not have.
    decoded = decode_uncached(model, task.make_batch(pairs).src, 5, START, END)
    sums = task.read_sums(decoded)
    digits = {
        name: int(((sums // size % 10 == right // size % 10) & (sums >= 0)).sum())
        for name, size in PLACES.items()
    }
    return {"sums": int((sums == right).sum())} | digits


class Start(NamedTuple):
    """What a run begins with."""

    task: AdditionTask
    held_out: Tensor
    model: Transformer
    update: Update
    batches: Iterator[Batch]


def start(seed: int, num_digits: int = 2, part: Part = PARTS[0]) -> Start:
    """Split, model and batches of one seed; the model is the whole one without `part`."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    task = AdditionTask(num_digits)
    seen, held_out = task.split(1_000 if num_digits == 2 else 10_000, generator)
    model = Transformer(task.vocab_size, task.vocab_size, **RECIPE.sizes)
    take_away(part, model)
    update = build_update(RECIPE, model)
    batches = task.batches(seen, RECIPE.batch_size, generator)
    return Start(task, held_out, model, update, batches)


def run(part: Part, seed: int) -> dict:
    """Train without `part`; ask all pairs at each exam."""
    _, _, model, update, batches = start(seed, part=part)
    exams = {}
    for step in range(1, RECIPE.num_steps + 1):
        train_step(model, next(batches), update)
        if step in EXAMS_OF_PARTS:
            exams[step] = count_right(model)
    result = {"seed": seed, "exams": exams}
    print(part.name, result, flush=True)
    return result


def run_order(num_digits: int, units_first: bool, seed: int) -> dict:
    """Train with one order of writing; the share of right sums at each exam."""
    task, held_out, model, update, batches = start(seed, num_digits)
    asked = task.all_pairs() if num_digits == 2 else held_out

    def share_right() -> float:
        tokens = model.greedy_decode(
            task.make_batch(asked).src, num_digits + 3, START, END
        )
        if units_first:
            tokens[:, 1 : num_digits + 2] = tokens[:, 1 : num_digits + 2].flip(1)
        return (task.read_sums(tokens) == asked.sum(dim=1)).float().mean().item()

    right = {}
    for step in range(1, max(EXAMS_OF_ORDERS) + 1):
        batch = next(batches)
        train_step(model, backwards(batch) if units_first else batch, update)
        if step in EXAMS_OF_ORDERS:
            right[step] = share_right()
    result = {"seed": seed, "right": right}
    print(num_digits, "units first" if units_first else "plain", result, flush=True)
    return result


def main() -> None:
    """Run everything, one run per core; store."""
    orders = list(itertools.product((2, 3), (False, True)))
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        of_parts = {
            (seed, part.name): pool.submit(run, part, seed)
            for seed in SEEDS
            for part in PARTS
        }
        of_orders = {
            (seed, *order): pool.submit(run_order, *order, seed)
            for seed in SEEDS
            for order in orders
        }
    results = {
        "threads": 1,
        "parts": [
            {
                "without": part.name,
                "runs": [of_parts[seed, part.name].result() for seed in SEEDS],
            }
            for part in PARTS
        ],
        "orders": [
            {
                "digits": digits,
                "units_first": units_first,
                "runs": [
                    of_orders[seed, digits, units_first].result() for seed in SEEDS
                ],
            }
            for digits, units_first in orders
        ],
    }
    write_results("parts", ["torch"], results)


if __name__ == "__main__":
    main()
