"""The state of a run of training in one file, so that it may be killed at any moment.

Weights, optimizer, scheduler, history, best weights and the random numbers of every process
are in it; the place in the data is the number of steps taken.

>>> run = TrainingRun(model, optimizer, scheduler=scheduler)
>>> load_run(path, run)
>>> for step in run.steps(endless(loader, run.history.num_steps), 10_000):
...     if step % 500 == 0:
...         save_run(path, run)
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)

from transformer.checks import check_weights
from transformer.files import clear_unfinished
from transformer.history import History
from transformer.parallel import (
    bare_model,
    rank,
    spread_like,
    sum_over_processes,
    whole,
    world_size,
)
from transformer.state_file import read_state, write_state
from transformer.training import TrainingRun

_PARTS = {
    "weights",
    "optimizer",
    "scheduler",
    "history",
    "best_weights",
    "random",
    "others",
}
# Of a model that is spread over the processes, process 0 gets the whole.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Stateful(Protocol):
    """What else may belong to a run: averaged weights, for example."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and texts, in dicts, lists and tuples."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take up what `state_dict` gave."""


def save_run(
    path: str | os.PathLike[str], run: TrainingRun, **others: Stateful
) -> None:
    """Write the state of `run` and of `others` to `path`, replacing what was there.

    Call it between two steps; of several processes, in all. The file appears whole or not
    at all: a process that is killed meanwhile, or a full disk, leaves the former one.

    Raises:
        OSError: if it cannot be written, saying what `path` still holds.
        TypeError: if a state holds something else than tensors, numbers and texts.
        ValueError: if no step has been taken yet.
    """
    if run.history.num_steps == 0:
        raise ValueError("no step has been taken yet: there is nothing to save")
    model = bare_model(run.model)
    weights, optimizer = get_state_dict(model, run.optimizer, options=_WHOLE)
    best, scheduler = run.best_weights, run.scheduler
    state = {
        "weights": weights,
        "optimizer": optimizer,
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "history": asdict(run.history),
        "best_weights": best and {name: whole(best[name]) for name in best},
        "random": _random_states(),
        "others": {name: other.state_dict() for name, other in others.items()},
    }
    try:
        if rank() == 0:
            write_state(path, state)
    except OSError as error:
        kept = "is as it was" if Path(path).is_file() else "does not exist"
        raise OSError(
            error.errno,
            f"could not save the run after step {run.history.num_steps}: "
            f"{error.strerror}; {path} {kept}",
        ) from error
    # No process goes on, or is told that all is well, before the file is there.
    sum_over_processes(torch.zeros(1))


def load_run(
    path: str | os.PathLike[str], run: TrainingRun, **others: Stateful
) -> bool:
    """Let `run` and `others` go on where `save_run` was called; whether there was a file.

    Build them as they were built then, load, and only then begin. Every process reads the
    file. Of a larger number of processes, those whose random numbers it does not hold keep
    theirs. What killed writes have left beside `path` is cleared.

    Raises:
        ValueError: if the file is torn or no state of a run, or does not fit; `run` is
            then as it was.
    """
    if rank() == 0:
        clear_unfinished(path)
    if not Path(path).is_file():
        return False
    state = read_state(path)
    _check_fit(path, state, run, others)
    model = bare_model(run.model)
    set_state_dict(
        model,
        run.optimizer,
        model_state_dict=state["weights"],
        optim_state_dict=state["optimizer"],
        options=_WHOLE,
    )
    if run.scheduler is not None:
        run.scheduler.load_state_dict(state["scheduler"])
    for name, other in others.items():
        other.load_state_dict(state["others"][name])
    run.history = History(**state["history"])
    best = state["best_weights"]
    run.best_weights = best and spread_like(model.state_dict(), best)
    _set_random_states(state["random"])
    return True


def _check_fit(
    path: str | os.PathLike[str],
    state: dict[str, Any],
    run: TrainingRun,
    others: dict[str, Stateful],
) -> None:
    if lacking := sorted(_PARTS - state.keys()):
        raise ValueError(
            f"{path} holds no state of a run: it lacks {', '.join(lacking)}"
        )
    model = bare_model(run.model)
    check_weights(f"in {path}", state["weights"], get_model_state_dict(model))
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = [
        {names[parameter] for parameter in group["params"]}
        for group in run.optimizer.param_groups
    ]
    saved = [set(group["params"]) for group in state["optimizer"]["param_groups"]]
    if groups != saved:
        raise ValueError(
            f"the optimizer in {path} holds groups of {[len(group) for group in saved]} "
            f"parameters, the one given {[len(group) for group in groups]}, or others"
        )
    kinds = [
        f"{'a' if has_scheduler else 'no'} scheduler and {sorted(named)}"
        for has_scheduler, named in (
            (state["scheduler"] is not None, state["others"]),
            (run.scheduler is not None, others),
        )
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{path} holds {kinds[0]}; {kinds[1]} were given")


def _random_states() -> Tensor:
    """The state of the random numbers of every process, one a row."""
    own = torch.get_rng_state()
    if torch.cuda.is_available():
        own = torch.cat([own, torch.cuda.get_rng_state()])
    states = torch.zeros(world_size(), len(own), dtype=torch.uint8)
    states[rank()] = own
    return sum_over_processes(states)


def _set_random_states(states: Tensor) -> None:
    if rank() >= len(states):
        return
    size = len(torch.get_rng_state())
    # Copies: `set_rng_state` reads a view from the beginning of its storage.
    own, on_cuda = (part.clone() for part in states[rank()].tensor_split([size]))
    torch.set_rng_state(own)
    if torch.cuda.is_available() and len(on_cuda) > 0:
        torch.cuda.set_rng_state(on_cuda)
