"""What tests run in processes of their own."""

import itertools
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import torch
from helpers import small_model
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from transformer import evaluate, make_batch, train
from transformer.batching import in_parts
from transformer.loading import endless, load_pairs
from transformer.pairs import PairFile
from transformer.parallel import (
    bare_model,
    broadcast_weights,
    process_group,
    rank,
    shard,
    sum_over_processes,
    whole,
    world_size,
)
from transformer.run_state import load_run, save_run
from transformer.schedule import cosine_schedule
from transformer.state_file import write_state
from transformer.training import TrainingRun
from transformer.vocabulary import Vocabulary

SYMBOLS = Vocabulary(list("abcdefgh"))


def write_pairs(path):
    """Words that are to be written backwards."""
    generator = torch.Generator().manual_seed(7)
    lines = []
    for length in torch.randint(1, 7, (61,), generator=generator).tolist():
        ids = torch.randint(0, 8, (length,), generator=generator).tolist()
        word = [SYMBOLS.symbols[i] for i in ids]
        lines.append(f"{' '.join(word)}\t{' '.join(reversed(word))}\n")
    path.write_text("".join(lines))


def train_to_the_end(folder, num_steps=24, die_at=None, save_every=3):
    """A run that goes on where it was killed; `final` then holds all that it came to.

    Everything that a run can have: dropout, a schedule, patience, averaged weights, batches
    from a loader.

    Args:
        die_at: "step N" kills the process in the middle of a step, "save N" in the middle
            of a write.
    """
    torch.set_num_threads(1)
    torch.manual_seed(5)
    folder = Path(folder)
    pairs = PairFile(folder / "pairs.tsv", SYMBOLS, SYMBOLS)
    model = small_model(dropout=0.3).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    run = TrainingRun(
        model,
        optimizer,
        scheduler=cosine_schedule(optimizer, 5, num_steps),
        held_out=load_pairs(pairs, 100, seed=1),
        evaluate_every=4,
        patience=99,
    )
    kind, _, number = (die_at or "").partition(" ")
    load_run(folder / "run", run, averaged=averaged)
    if kind == "step":
        kill_at_call(model.output_projection, run.history.num_steps, int(number))
    batches = endless(load_pairs(pairs, 60), run.history.num_steps)
    for step in run.steps(batches, num_steps):
        averaged.update_parameters(model)
        if kind == "save" and step >= int(number):
            os.fsync = kill_oneself
        if step % save_every == 0:
            save_run(folder / "run", run, averaged=averaged)
    last = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run.restore_best()
    history = vars(run.history)
    write_state(
        folder / "final",
        {
            "last": last,
            "best": model.state_dict(),
            "averaged": averaged.state_dict(),
            "history": history,
        },
    )


def kill_at_call(module, done, step):
    def count(_module, _inputs, _outputs):
        if module.training:
            nonlocal done
            done += 1
            if done == step:
                kill_oneself()

    module.register_forward_hook(count)


def kill_oneself(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def ragged_batches(batch_size, seed=0):
    """Copying rows of 1 to 9 tokens, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        lengths = torch.randint(1, 10, (batch_size,), generator=generator).tolist()
        rows = [
            torch.randint(3, 11, (n,), generator=generator).tolist() for n in lengths
        ]
        yield make_batch(rows, rows)


def begin(wrap=lambda model: model, seed=3):
    torch.manual_seed(seed)
    model = wrap(small_model(dropout=0.0, num_decoder_layers=2))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def outcome(model, history):
    """Losses and norms of a run, and the weights that it led to, as numbers."""
    weights = {
        name: whole(tensor).tolist()
        for name, tensor in bare_model(model).state_dict().items()
    }
    return {
        "loss": history.loss,
        "norm": history.gradient_norm,
        "held out": history.held_out_loss,
        "accuracy": history.held_out_accuracy,
        "weights": weights,
    }


def train_on(batches, wrap=lambda model: model, num_steps=30, seed=3, **options):
    model, optimizer = begin(wrap, seed)
    held_out = list(itertools.islice(ragged_batches(7, seed=1), 3))
    history = train(
        model,
        batches,
        optimizer,
        num_steps,
        held_out=held_out,
        evaluate_every=10,
        progress=False,
        **options,
    )
    return outcome(model, history)


def in_ddp(model):
    return DistributedDataParallel(model)


def in_ordered_ddp(model):
    return DistributedDataParallel(model, find_unused_parameters=True)


def cut_up(model):
    for layer in [*model.encoder.layers, *model.decoder.layers]:
        fully_shard(layer)
    return fully_shard(model)


def cut_up_from_another_seed(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(rank())
    broadcast_weights(model)
    return cut_up(model)


def refusal(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def saved_and_resumed(path, wrap):
    """Eight steps at once, and eight with a new beginning from a file after the fourth."""
    outcomes = []
    for breaks in (False, True):
        model, optimizer = begin(wrap)
        run = TrainingRun(
            model, optimizer, held_out=next(ragged_batches(5)), patience=9
        )
        run.evaluate_every = 2
        batches = ragged_batches(6)
        for step in run.steps(shard(batches), 8):
            if breaks and step == 4:
                break
        if breaks:
            save_run(path, run)
            model, optimizer = begin(wrap, seed=4)
            run = TrainingRun(
                model, optimizer, held_out=next(ragged_batches(5)), patience=9
            )
            run.evaluate_every = 2
            assert load_run(path, run)
            for _ in run.steps(shard(batches), 8):
                pass
        run.restore_best()
        outcomes.append(outcome(model, run.history))
    return outcomes


@process_group(timedelta(seconds=100))
def facts_of_two_processes(folder):
    """All that two processes are asked; one launch answers."""
    small = itertools.cycle([next(ragged_batches(1)), next(ragged_batches(3, seed=4))])
    random_numbers = torch.Generator().manual_seed(rank())
    own = torch.rand(3, generator=random_numbers)
    begin_one = begin()
    return {
        "size": world_size(),
        "rank": rank(),
        "sum": sum_over_processes(torch.tensor([rank() + 1, 5])).tolist(),
        "sum of own": sum_over_processes(own).tolist(),
        "own": own.tolist(),
        "ddp": train_on(shard(ragged_batches(64)), in_ddp),
        "ddp in parts": train_on(in_parts(shard(ragged_batches(64)), 2), in_ddp),
        "fsdp": train_on(shard(ragged_batches(6)), cut_up, 8),
        "fsdp in parts": train_on(in_parts(shard(ragged_batches(6)), 2), cut_up, 8),
        "fsdp, other seeds": train_on(
            shard(ragged_batches(6)), cut_up_from_another_seed, 8
        ),
        "smooth": train_on(shard(ragged_batches(6)), in_ddp, 8, label_smoothing=0.1),
        "not sharded": train_on(ragged_batches(6), in_ddp, 8),
        "small": train_on(shard(small), in_ddp, 8),
        "not wrapped": refusal(lambda: train_on(shard(ragged_batches(6)))),
        "ddp resumed": saved_and_resumed(Path(folder) / "ddp", in_ddp),
        "fsdp resumed": saved_and_resumed(Path(folder) / "fsdp", cut_up),
        "evaluation": tuple(evaluate(in_ddp(begin_one[0]), next(ragged_batches(5)))),
        "stopped by one": [
            len(
                train_on(
                    shard(ragged_batches(6)),
                    in_ddp,
                    num_steps=3,
                    max_seconds=0.0 if rank() == hurried else 999,
                )["loss"]
            )
            for hurried in (0, 1)
        ],
    }


@process_group(timedelta(seconds=100))
def resume_in_order(path):
    return saved_and_resumed(Path(path), in_ordered_ddp)


@process_group(timedelta(seconds=100))
def fail_in_one_process():
    batches = shard(ragged_batches(6))
    if rank() == 1:
        batches = itertools.chain(itertools.islice(batches, 2), [None])
    return train_on(batches, in_ddp)
