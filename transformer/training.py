"""The loop around the training step, and what is measured meanwhile."""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm import tqdm

from transformer.batching import Batch, as_batch, as_collection, as_parts, is_batch
from transformer.checks import check_number, check_positive_int
from transformer.history import Evaluation, History
from transformer.loss import next_token_loss, token_accuracy
from transformer.parallel import (
    bare_model,
    rank,
    shard,
    sum_over_processes,
    world_size,
)
from transformer.runtime import evaluation_mode, uninterrupted
from transformer.step import check_options, train_step
from transformer.transformer import Transformer


@torch.no_grad()
def evaluate(model: Transformer, batches: Collection[Batch]) -> Evaluation:
    """Measure the model on `batches` with dropout off; every target token counts alike.

    Of several processes, each measures its rows of every batch; all get the same result.

    Args:
        batches: a list, a `DataLoader` or another collection of batches; or one batch.

    Raises:
        TypeError: if `batches` has no length (an iterator may never end), or one of them
            is no batch.
        ValueError: if there is no batch.
    """
    loss, right, count = 0.0, 0, 0
    pad_token_id = bare_model(model).pad_token_id
    with evaluation_mode(model):
        for batch in shard(as_collection("batches", batches), pad_token_id):
            src, tgt_in, tgt_out = batch.to(_device(model))
            logits = model(src, tgt_in)
            tokens = int((tgt_out != pad_token_id).sum())
            if tokens == 0 and world_size() > 1:
                continue  # This process has got no row of a small batch.
            mean_loss = next_token_loss(logits, tgt_out, pad_token_id)
            accuracy = token_accuracy(logits, tgt_out, pad_token_id)
            loss += mean_loss.item() * tokens
            right += round(accuracy.item() * tokens)
            count += tokens
    sums = torch.tensor([loss, right, count], dtype=torch.float64)
    loss, right, count = sum_over_processes(sums).tolist()
    if count == 0:
        raise ValueError("there is no batch to evaluate on")
    return Evaluation(loss / count, right / count)


class TrainingRun:
    """A run to watch, change or save between its steps; `train` is the short form of it.

    >>> run = TrainingRun(model, optimizer, scheduler=scheduler)
    >>> for step in run.steps(batches, 1000):
    ...     if step % 100 == 0:
    ...         save_run(path, run)

    Whatever belongs to a step has happened when its number comes: the scheduler has
    advanced, and the held-out batches have been evaluated if it was their turn.
    """

    def __init__(
        self,
        model: Transformer,
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        clip_norm: float | None = 1.0,
        label_smoothing: float = 0.0,
        held_out: Collection[Batch] | None = None,
        evaluate_every: int = 100,
        patience: int | None = None,
    ) -> None:
        """Begin at step 0. Arguments and errors as in `train`."""
        check_options(clip_norm, label_smoothing)
        self.evaluate_every = check_positive_int("evaluate_every", evaluate_every)
        self._watches_loss = isinstance(scheduler, ReduceLROnPlateau)
        if getattr(scheduler, "optimizer", optimizer) is not optimizer:
            raise ValueError(
                "the scheduler belongs to another optimizer than the one given"
            )
        if patience is not None:
            patience = check_positive_int("patience", patience)
        if held_out is not None:
            held_out = [
                as_batch(batch) for batch in as_collection("held_out", held_out)
            ]
            if not held_out:
                raise ValueError("held_out holds no batch; None means no evaluation")
        elif patience is not None:
            raise ValueError(f"patience ({patience}) needs held_out batches to watch")
        elif self._watches_loss:
            raise ValueError("ReduceLROnPlateau needs held_out batches to watch")
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.clip_norm, self.label_smoothing = clip_norm, label_smoothing
        self.held_out, self.patience = held_out, patience
        self.history = History()
        """What has happened so far."""
        self.best_weights: dict[str, Tensor] | None = None
        """With `patience`, the weights with the lowest held-out loss so far."""

    def steps(
        self,
        batches: Iterable[Batch | Sequence[Batch]],
        num_steps: int,
        max_seconds: float | None = None,
    ) -> Iterator[int]:
        """Train until the history holds `num_steps` steps; give the number of each.

        Ctrl-C waits for the end of the step that it falls in.

        Args:
            batches: one a step, beginning with that of the next step.
            num_steps: counted from the beginning of the run, not of this call.
            max_seconds: begin no further step after so many seconds from now.
        """
        num_steps = check_positive_int("num_steps", num_steps)
        if max_seconds is not None:
            check_number("max_seconds", max_seconds)
        _check_source(batches, num_steps, self.history.num_steps)
        return self._steps(iter(batches), num_steps, max_seconds)

    def _steps(
        self,
        source: Iterator[Batch | Sequence[Batch]],
        num_steps: int,
        max_seconds: float | None,
    ) -> Iterator[int]:
        history, start = self.history, time.monotonic()
        history.interrupted = history.out_of_time = False
        # An interruption may have cut off the evaluation after the last step.
        self._evaluate(is_last=history.num_steps == num_steps)
        while history.num_steps < num_steps and not history.stopped_early:
            batch = next(source, None)
            if batch is None:
                raise ValueError(
                    f"the batches ran out after {history.num_steps} of {num_steps} steps"
                )
            parts = [part.to(_device(self.model)) for part in as_parts(batch)]
            with uninterrupted():
                self._step(parts)
            is_last = history.num_steps == num_steps
            if max_seconds is not None and not is_last:
                seconds = time.monotonic() - start
                history.out_of_time = _decided_by_first(seconds >= max_seconds)
            self._evaluate(is_last or history.out_of_time)
            if history.evaluations_since_best == self.patience:
                history.stopped_early = not is_last
            yield history.num_steps
            if history.out_of_time:
                return

    def _step(self, parts: list[Batch]) -> None:
        rate = float(self.optimizer.param_groups[0]["lr"])
        result = train_step(
            self.model, parts, self.optimizer, self.clip_norm, self.label_smoothing
        )
        self.history.add_step(result, rate)
        if self.scheduler is not None and not self._watches_loss:
            self.scheduler.step()

    def _evaluate(self, is_last: bool) -> None:
        """Evaluate and remember the best weights, if it is time and not yet done."""
        step = self.history.num_steps
        is_due = step > 0 and (is_last or step % self.evaluate_every == 0)
        if not is_due or self.held_out is None:
            return
        if step in self.history.held_out_steps:
            return
        evaluation = evaluate(self.model, self.held_out)
        with uninterrupted():
            self.history.add_evaluation(step, evaluation)
            if self._watches_loss:
                self.scheduler.step(evaluation.loss)
            if self.patience is not None and self.history.evaluations_since_best == 0:
                weights = bare_model(self.model).state_dict()
                self.best_weights = copy.deepcopy(weights)

    def restore_best(self) -> None:
        """Put the weights with the lowest held-out loss back, if there is `patience`."""
        if self.best_weights is not None:
            with uninterrupted():
                bare_model(self.model).load_state_dict(self.best_weights)


def train(
    model: Transformer,
    batches: Iterable[Batch | Sequence[Batch]],
    optimizer: Optimizer,
    num_steps: int,
    *,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = 1.0,
    label_smoothing: float = 0.0,
    held_out: Collection[Batch] | None = None,
    evaluate_every: int = 100,
    patience: int | None = None,
    max_seconds: float | None = None,
    progress: bool = True,
) -> History:
    """Train for `num_steps` steps, or until the held-out loss stops improving.

    Ctrl-C, or a notebook's stop button, ends training after the step it falls in; the
    history says so. To do something between two steps, or to go on where a run was killed,
    see `TrainingRun`.

    Args:
        model: wrapped in `DistributedDataParallel` or cut up by `fully_shard`, if several
            processes train it together; see `transformer.parallel`.
        batches: at least `num_steps` batches, one a step. A list or tuple of three tensors
            is a batch, too; and so is a list of batches, the parts of one.
        scheduler: advanced once a step; a `ReduceLROnPlateau` with the held-out loss, after
            each evaluation.
        clip_norm: see `train_step`.
        label_smoothing: see `train_step`.
        held_out: batches never trained on, in a list, a `DataLoader` or another
            collection; or one batch. They are all kept in memory, and evaluated every
            `evaluate_every` steps and at the end.
        patience: stop after this many evaluations in a row without a lower held-out
            loss; at the end, however it came, put the weights with the lowest one back.
            None: never stop early, keep the last weights.
        max_seconds: begin no further step after this time; None: take all steps.
        progress: show a bar, which vanishes at the end. (The environment variable
            `TQDM_DISABLE=1` switches it off too.)

    Returns:
        The history. The model is left in training mode, as far as `train_step` switches
        its parts to it.

    Raises:
        TypeError: if `held_out` has no length, or a batch is none.
        ValueError: if the batches run out, the scheduler belongs to another optimizer, or
            `patience` or a `ReduceLROnPlateau` is given without `held_out`.
        FloatingPointError: if training diverges; see `train_step`. Whatever error ends
            training has the history until then as its attribute `history`.
    """
    run = TrainingRun(
        model,
        optimizer,
        scheduler=scheduler,
        clip_norm=clip_norm,
        label_smoothing=label_smoothing,
        held_out=held_out,
        evaluate_every=evaluate_every,
        patience=patience,
    )
    steps = run.steps(batches, num_steps, max_seconds)
    if progress and rank() == 0:
        steps = tqdm(steps, total=num_steps, leave=False, unit="step")
    try:
        for _ in steps:
            pass
    except KeyboardInterrupt:
        run.history.interrupted = True
    except Exception as error:
        error.history = run.history
        raise
    finally:
        run.restore_best()
    return run.history


def _check_source(batches: Iterable[Batch], num_steps: int, num_done: int) -> None:
    if is_batch(batches):
        raise TypeError(
            "batches is one batch: itertools.repeat(batch) trains on it again and again"
        )
    try:
        count = len(batches)
    except TypeError:
        return  # An iterator shows only at its end how many it had.
    if count < num_steps - num_done:
        taken = f" less the {num_done} taken" if num_done else ""
        raise ValueError(
            f"batches holds {count}, fewer than num_steps ({num_steps}){taken}"
        )


def _decided_by_first(condition: bool) -> bool:
    """What process 0 finds, so that all of them end after the same step."""
    found = torch.tensor(int(condition and rank() == 0))
    return bool(sum_over_processes(found))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
