"""How many examples it takes to add two-digit numbers without a mistake.

Every recipe trains on 9,000 of the 10,000 pairs, none of which is held out in the other
order, with five seeds or more that decide the split, the first weights and the order of the
examples. Counted: how many of the 1,000 held-out pairs and of all 10,000 the trained model
answers exactly, greedily decoded. Sums are written in plain order, unless the recipe says
that the units come first. Where it says so, a running average of the weights is asked.

Chapter 9's recipe is run a hundred times more: ten seeds, each with ten choices of noise in
the first weights, which stand for the roundings of other processors.
"""

import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.measure import machine, write_results
from benchmarks.perturbation import change_weights
from transformer import (
    END,
    START,
    AdditionTask,
    Batch,
    Transformer,
    count_parameters,
    train_step,
)

SMALL = dict(
    d_model=64,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    d_ff=256,
    max_len=16,
    dropout=0.0,
    norm_first=True,
)
ORIGINAL = dict(
    d_model=128,
    num_heads=4,
    num_encoder_layers=3,
    num_decoder_layers=3,
    d_ff=512,
    max_len=16,
    dropout=0.1,
)


class Recipe(NamedTuple):
    """A model and how it is trained."""

    name: str
    optimizer: str
    num_steps: int
    batch_size: int
    sizes: dict = SMALL
    units_first: bool = False
    is_averaged: bool = False
    num_seeds: int = 5


ADAM, ADAMW, MUON = "Adam 5e-4", "AdamW 3e-3, one cycle", "Muon 0.03, one cycle"
RECIPES = [
    Recipe("chapter 9's", ADAMW, 1_800, 64),
    *(
        Recipe(f"{num_steps:,} × {batch_size}", optimizer, num_steps, batch_size)
        for optimizer, num_steps, batch_size in (
            (ADAMW, 900, 128),
            (MUON, 1_000, 64),
            (MUON, 600, 64),
            (MUON, 400, 64),
        )
    ),
    Recipe("500 × 64, units first", MUON, 500, 64, units_first=True, num_seeds=20),
    Recipe(
        "500 × 64, units first, averaged",
        MUON,
        500,
        64,
        units_first=True,
        is_averaged=True,
        num_seeds=20,
    ),
    Recipe("the original tutorial's", ADAM, 4_000, 64, ORIGINAL),
]


class Update(NamedTuple):
    """Optimizers that each care for their part of a model, and their learning rates."""

    optimizers: list[Optimizer]
    schedules: list[LRScheduler]

    @property
    def param_groups(self) -> list[dict]:
        """The groups of all optimizers."""
        return [group for each in self.optimizers for group in each.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Update the weights, then the learning rates."""
        for part in (*self.optimizers, *self.schedules):
            part.step()


def build_update(recipe: Recipe, model: Transformer) -> Update:
    """The recipe's optimizers for `model`."""
    if recipe.optimizer == ADAM:
        return Update([Adam(model.parameters(), lr=5e-4)], [])
    build = build_adamw if recipe.optimizer == ADAMW else build_muon
    optimizers = build(model)
    schedules = [one_cycle(optimizer, recipe.num_steps) for optimizer in optimizers]
    return Update(optimizers, schedules)


def build_adamw(model: Transformer, learning_rate: float = 3e-3) -> list[Optimizer]:
    """AdamW as in chapter 9."""
    settings = dict(lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.3, fused=True)
    return [AdamW(model.parameters(), **settings)]


def build_muon(model: Transformer, learning_rate: float = 0.03) -> list[Optimizer]:
    """Muon for the matrices inside the layers, for which it is made; AdamW for the rest."""
    layers = [*model.encoder.parameters(), *model.decoder.parameters()]
    matrices = [weight for weight in layers if weight.dim() == 2]
    others = {id(p): p for p in model.parameters()}
    for weight in matrices:
        del others[id(weight)]
    return [
        Muon(matrices, lr=learning_rate, weight_decay=0.0),
        AdamW(others.values(), lr=3e-3, betas=(0.9, 0.99)),
    ]


def one_cycle(optimizer: Optimizer, num_steps: int) -> OneCycleLR:
    """Up to the optimizer's learning rate in a tenth of the steps, then straight down."""
    return OneCycleLR(
        optimizer,
        max_lr=optimizer.defaults["lr"],
        total_steps=num_steps,
        pct_start=0.1,
        anneal_strategy="linear",
        cycle_momentum=False,
    )


def backwards(batch: Batch) -> Batch:
    """The same sums, written with the units first."""
    digits = batch.tgt_out[:, :-1].flip(1)
    return Batch(
        batch.src,
        tgt_in=torch.cat([batch.tgt_in[:, :1], digits], dim=1),
        tgt_out=torch.cat([digits, batch.tgt_out[:, -1:]], dim=1),
    )


def count_right(model: Transformer, pairs: Tensor, units_first: bool) -> int:
    """How many of `pairs` the model answers without a mistake."""
    task = AdditionTask(num_digits=2)
    decoded = model.greedy_decode(task.make_batch(pairs).src, 5, START, END)
    if units_first:
        decoded[:, 1:4] = decoded[:, 1:4].flip(1)
    return int((task.read_sums(decoded) == pairs.sum(dim=1)).sum())


def run(recipe: Recipe, seed: int, noise: int = 0) -> dict:
    """Train with one seed, and with noise unless it is 0; ask all 10,000 pairs."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    task = AdditionTask(num_digits=2)
    seen, held_out = task.split(num_held_out=1_000, generator=generator)
    model = Transformer(task.vocab_size, task.vocab_size, **recipe.sizes)
    if noise:
        change_weights(model, noise)
    update = build_update(recipe, model)
    batches = task.batches(seen, recipe.batch_size, generator)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    start = time.process_time()
    for batch in itertools.islice(batches, recipe.num_steps):
        train_step(model, backwards(batch) if recipe.units_first else batch, update)
        if recipe.is_averaged:
            averaged.update_parameters(model)
    cpu_seconds = time.process_time() - start
    asked_model = averaged.module if recipe.is_averaged else model

    result = {
        "seed": seed,
        "noise": noise,
        "held_out_right": count_right(asked_model, held_out, recipe.units_first),
        "all_right": count_right(asked_model, task.all_pairs(), recipe.units_first),
        "cpu_seconds": cpu_seconds,
    }
    print(recipe.name, recipe.optimizer, result, flush=True)
    return result


def describe(recipe: Recipe, runs: list[dict]) -> dict:
    """What is stored of a recipe."""
    model = Transformer(14, 14, **recipe.sizes)
    return {
        "name": recipe.name,
        "optimizer": recipe.optimizer,
        "parameters": count_parameters(model),
        "steps": recipe.num_steps,
        "batch_size": recipe.batch_size,
        "examples": recipe.num_steps * recipe.batch_size,
        "runs": runs,
    }


def main() -> None:
    """Run every recipe with every seed, one run per core; store."""
    jobs = [(each, seed, 0) for each in RECIPES for seed in range(each.num_seeds)]
    jobs += [(RECIPES[0], seed, noise) for seed in range(10) for noise in range(1, 11)]
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        runs = pool.map(run, *zip(*jobs, strict=True))
        recipes = [
            describe(recipe, list(itertools.islice(runs, recipe.num_seeds)))
            for recipe in RECIPES
        ]
        hundred = list(runs)
    results = {"threads": 1, "recipes": recipes, "hundred": hundred}
    write_results("learning", ["torch"], results)


if __name__ == "__main__":
    main()
