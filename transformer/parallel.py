"""One training run in several processes, with PyTorch's own engine, started by torchrun.

Every process builds the same model, wraps it in `DistributedDataParallel` (or cuts it up
with `fully_shard`), draws the same batches, and takes its own rows of each:

>>> @process_group()
... def main():
...     parallel = DistributedDataParallel(model, forward_sync_buffers=False)
...     train(parallel, shard(batches), optimizer, num_steps)

A single process does the right thing, too. `forward_sync_buffers=False` (before PyTorch
2.13, `broadcast_buffers`) saves a message a step: the table of positions is the same
everywhere. With three processes or more,
`find_unused_parameters=True` lets a resumed run add up gradients in the same order as
before; otherwise its weights agree within rounding, not bit for bit.
"""

import gc
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from transformer.batching import Batch, as_batch, part_of
from transformer.runtime import choose_device
from transformer.tokens import PAD


@contextmanager
def process_group(timeout: timedelta = timedelta(minutes=5)) -> Iterator[torch.device]:
    """Join the processes that torchrun started; leave them at the end.

    Gives the device of this process. Without torchrun there is one process, and no group.
    Best used as a decorator, so that nothing inside outlives the group: a
    `DistributedDataParallel` that does may hang its process.

    Args:
        timeout: how long to wait for the other processes before it is an error. (gloo
            itself would wait for 30 minutes.)

    Raises:
        ValueError: if torchrun is to restart processes that would meet the addresses of
            dead ones.
    """
    if "RANK" not in os.environ:
        yield choose_device()
        return
    _check_restarts()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device.type == "cpu" else "nccl", timeout=timeout)
    try:
        yield device
    except Exception as error:
        # Without farewell: the process ends with its message, torchrun shows the first one
        # and ends the others, which may be waiting for this one.
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
        raise
    gc.collect()
    dist.destroy_process_group()


def _check_restarts() -> None:
    environment = os.environ
    restarts = environment.get("TORCHELASTIC_MAX_RESTARTS", "0")
    if restarts != "0" and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ValueError(
            f"torchrun has --max-restarts {restarts}: put "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before it, or restarted processes may "
            "call dead ones"
        )


def rank() -> int:
    """The number of this process, from 0. Process 0 shows the bar and writes the files."""
    return dist.get_rank() if _has_group() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _has_group() else 1


def _has_group() -> bool:
    # Not every build of PyTorch has the engine.
    return dist.is_available() and dist.is_initialized()


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of every process's `value`, the same in all; each must ask for it."""
    if world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else value.device
    total = value.to(device, copy=True)
    dist.all_reduce(total)
    return total


def shard(batches: Iterable[Batch], pad_token_id: int = PAD) -> Iterator[Batch]:
    """This process's rows of every batch: of N processes, each takes every N-th row.

    Every process must draw the same batches: build them from the same seed. One that
    forgets to shard them computes what the others compute, too; the weights are the same.

    Args:
        pad_token_id: fills the target of a process that gets no row of a small batch.
    """
    return (
        part_of(as_batch(batch), rank(), world_size(), pad_token_id)
        for batch in batches
    )


def bare_model(model: nn.Module) -> nn.Module:
    """The model inside all that wraps it, `DistributedDataParallel` or `torch.compile`.

    Or `DataParallel`, `AveragedModel`, or several of them.
    """
    wrappers = (DistributedDataParallel, DataParallel, AveragedModel)
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, wrappers):
            model = model.module
        else:
            return model


def broadcast_weights(model: nn.Module) -> None:
    """Give every process the weights of process 0.

    `DistributedDataParallel` does so itself. `fully_shard` does not: called on models that
    were drawn from different seeds, it trains a mixture of them, and nobody notices.
    """
    if world_size() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def check_synchronised(model: nn.Module) -> None:
    """Raise if several processes would train `model` each on its own."""
    if world_size() > 1 and not _synchronises(model):
        raise ValueError(
            f"{world_size()} processes would train a model each: wrap it, "
            "DistributedDataParallel(model), or cut it up, fully_shard(model)"
        )


def _synchronises(model: nn.Module) -> bool:
    model = getattr(model, "_orig_mod", model)
    return isinstance(model, DistributedDataParallel) or _is_cut_up(model)


def _is_cut_up(model: nn.Module) -> bool:
    # What `fully_shard` makes of a model has this method. Its class is slow to import.
    return hasattr(model, "set_requires_gradient_sync")


def synchronised(model: nn.Module, is_last: bool) -> AbstractContextManager:
    """Forward and backward of one part of a step, without sending gradients yet.

    Only those of the last part are sent, and the sums of the earlier ones with them.
    """
    model = getattr(model, "_orig_mod", model)
    if _is_cut_up(model):
        model.set_requires_gradient_sync(is_last)
    elif isinstance(model, DistributedDataParallel) and not is_last:
        return model.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that `fully_shard` has spread over the processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def spread_like(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """`tensors`, each spread over the processes as the one of its name in `expected` is."""
    spread = dict(tensors)
    for name, like in expected.items():
        if hasattr(like, "full_tensor"):
            from torch.distributed.tensor import distribute_tensor

            spread[name] = distribute_tensor(
                tensors[name], like.device_mesh, like.placements
            )
    return spread
