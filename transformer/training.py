"""One training step, and the loop around it."""

from __future__ import annotations

import copy
import math
import signal
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm import tqdm

from transformer.batching import Batch, as_batch, as_collection, is_batch
from transformer.checks import (
    check_number,
    check_positive_int,
    check_tokens,
    visible_value,
)
from transformer.runtime import evaluation_mode
from transformer.tokens import PAD
from transformer.transformer import Transformer


def next_token_loss(logits: Tensor, tgt_out: Tensor, pad_token_id: int = PAD) -> Tensor:
    """Mean cross-entropy over the target tokens that are not PAD.

    Args:
        logits: `[batch, tgt_len, vocab]`.
        tgt_out: ids `[batch, tgt_len]`.

    Returns:
        A scalar, in nats per token; of logits in 16 bits, computed in 32.

    Raises:
        TypeError, ValueError: if shapes do not fit, a target token is outside the
            vocabulary, or every target token is PAD.
    """
    _check_targets(logits, tgt_out, pad_token_id)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return F.cross_entropy(
        logits.flatten(0, 1), tgt_out.flatten().long(), ignore_index=pad_token_id
    )


def token_accuracy(logits: Tensor, tgt_out: Tensor, pad_token_id: int = PAD) -> Tensor:
    """Share of the target tokens that are not PAD for which the likeliest token is right.

    Args and errors as in `next_token_loss`; returns a scalar in [0, 1].
    """
    _check_targets(logits, tgt_out, pad_token_id)
    is_token = tgt_out != pad_token_id
    is_right = logits.argmax(dim=-1) == tgt_out
    return (is_right & is_token).sum().float() / is_token.sum()


def _check_targets(logits: Tensor, tgt_out: Tensor, pad_token_id: int) -> None:
    if not isinstance(tgt_out, Tensor):
        raise TypeError(f"tgt_out must be a tensor, got {type(tgt_out).__name__}")
    if logits.dim() != 3 or logits.shape[:2] != tgt_out.shape:
        raise ValueError(
            f"logits [batch, tgt_len, vocab] and tgt_out [batch, tgt_len] do not fit: "
            f"{list(logits.shape)} and {list(tgt_out.shape)}"
        )
    check_tokens("tgt_out", tgt_out, logits.size(2), tgt_out.size(1))
    if visible_value((tgt_out != pad_token_id).any) == 0:
        raise ValueError(
            f"tgt_out {list(tgt_out.shape)} holds no token but PAD: nothing to learn from"
        )


class StepResult(NamedTuple):
    """What one training step measured, before the weights changed."""

    loss: float
    """Mean cross-entropy per target token, dropout on."""
    gradient_norm: float
    """Euclidean norm over all gradients, before clipping."""


def train_step(
    model: Transformer,
    batch: Batch,
    optimizer: Optimizer,
    clip_norm: float | None = 1.0,
) -> StepResult:
    """Forward, loss, backward, clip, update.

    A model in training mode stays as it is, the modes of its parts included. A model in
    evaluation mode is switched to training mode, except for parts whose parameters are all
    frozen (`requires_grad` is False).

    Args:
        batch: on the model's device; a list or tuple of its three tensors will do.
        optimizer: holds all parameters of the model, or some; only these are measured,
            clipped and changed.
        clip_norm: the gradients are scaled down to this norm if they exceed it; None:
            never.

    Raises:
        TypeError: if `batch` is no batch.
        ValueError: if `clip_norm` is not above 0, or the optimizer holds no trainable
            parameter of the model.
        FloatingPointError: if the loss or a gradient is infinite or NaN; the weights
            are then left as they were.
    """
    if clip_norm is not None:
        check_number("clip_norm", clip_norm)
        if clip_norm <= 0:
            raise ValueError(
                f"clip_norm must be above 0, got {clip_norm}; None means no clipping"
            )
    batch = as_batch(batch)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    trainable = {parameter for parameter in parameters if parameter.requires_grad}
    if trainable.isdisjoint(model.parameters()):
        raise ValueError(
            "the optimizer holds no trainable parameter of the model: build it anew "
            "from model.parameters()"
        )
    if not model.training:
        _switch_to_training(model)
    loss = next_token_loss(
        model(batch.src, batch.tgt_in), batch.tgt_out, model.pad_token_id
    )
    # Either may hold parameters that the other does not.
    model.zero_grad()
    optimizer.zero_grad()
    loss.backward()
    limit = math.inf if clip_norm is None else clip_norm
    gradient_norm = nn.utils.clip_grad_norm_(parameters, limit)
    result = StepResult(loss.item(), gradient_norm.item())
    if not all(map(math.isfinite, result)):
        raise FloatingPointError(
            f"loss {result.loss} with gradient norm {result.gradient_norm}: training has "
            "diverged; lower the learning rate or clip the gradients"
        )
    optimizer.step()
    return result


def _switch_to_training(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        return
    module.training = True
    for child in module.children():
        _switch_to_training(child)


class Evaluation(NamedTuple):
    """Loss and accuracy per target token, PAD left out, dropout off."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(model: Transformer, batches: Collection[Batch]) -> Evaluation:
    """Measure the model on `batches` with dropout off; every target token counts alike.

    Args:
        batches: a list, a `DataLoader` or another collection of batches; or one batch.

    Raises:
        TypeError: if `batches` has no length (an iterator may never end), or one of them
            is no batch.
        ValueError: if there is no batch.
    """
    loss, right, count = 0.0, 0, 0
    with evaluation_mode(model):
        for batch in as_collection("batches", batches):
            src, tgt_in, tgt_out = as_batch(batch).to(_device(model))
            logits = model(src, tgt_in)
            tokens = int((tgt_out != model.pad_token_id).sum())
            mean_loss = next_token_loss(logits, tgt_out, model.pad_token_id)
            accuracy = token_accuracy(logits, tgt_out, model.pad_token_id)
            loss += mean_loss.item() * tokens
            right += round(accuracy.item() * tokens)
            count += tokens
    if count == 0:
        raise ValueError("there is no batch to evaluate on")
    return Evaluation(loss / count, right / count)


@dataclass
class History:
    """What happened during training; steps are counted from 1."""

    loss: list[float] = field(default_factory=list)
    """Training loss of every step, dropout on."""
    learning_rate: list[float] = field(default_factory=list)
    """Rate of the first parameter group at every step."""
    gradient_norm: list[float] = field(default_factory=list)
    """Gradient norm of every step, before clipping."""
    held_out_steps: list[int] = field(default_factory=list)
    """Steps after which the held-out batches were evaluated."""
    held_out_loss: list[float] = field(default_factory=list)
    """Held-out loss after each of these steps, dropout off."""
    held_out_accuracy: list[float] = field(default_factory=list)
    """Held-out token accuracy after each of these steps, dropout off."""
    stopped_early: bool = False
    """Whether `patience` ended the run before its last step."""
    interrupted: bool = False
    """Whether Ctrl-C or a notebook's stop button ended the run."""

    @property
    def num_steps(self) -> int:
        """Number of steps taken."""
        return len(self.loss)

    @property
    def best_step(self) -> int | None:
        """The step after which the held-out loss was lowest."""
        if not self.held_out_loss:
            return None
        return self.held_out_steps[-1 - self.evaluations_since_best]

    @property
    def evaluations_since_best(self) -> int:
        """Evaluations after the one with the lowest held-out loss."""
        if not self.held_out_loss:
            return 0
        best = self.held_out_loss.index(min(self.held_out_loss))
        return len(self.held_out_loss) - 1 - best

    def add_step(self, result: StepResult, learning_rate: float) -> None:
        """Note what one step measured, and the rate it was taken at."""
        self.loss.append(result.loss)
        self.gradient_norm.append(result.gradient_norm)
        self.learning_rate.append(learning_rate)

    def add_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Note what the held-out batches gave after step `step`."""
        self.held_out_steps.append(step)
        self.held_out_loss.append(evaluation.loss)
        self.held_out_accuracy.append(evaluation.accuracy)


def train(
    model: Transformer,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    num_steps: int,
    *,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = 1.0,
    held_out: Collection[Batch] | None = None,
    evaluate_every: int = 100,
    patience: int | None = None,
    progress: bool = True,
) -> History:
    """Train for `num_steps` steps, or until the held-out loss stops improving.

    Ctrl-C, or a notebook's stop button, ends training after the step it falls in; the
    history says so.

    Args:
        batches: at least `num_steps` batches, one a step. A list or tuple of three tensors
            is a batch, too.
        scheduler: advanced once a step; a `ReduceLROnPlateau` with the held-out loss, after
            each evaluation.
        clip_norm: see `train_step`.
        held_out: batches never trained on, in a list, a `DataLoader` or another
            collection; or one batch. They are all kept in memory, and evaluated every
            `evaluate_every` steps and at the end.
        patience: stop after this many evaluations in a row without a lower held-out
            loss; at the end, however it came, put the weights with the lowest one back.
            None: never stop early, keep the last weights.
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
    num_steps = check_positive_int("num_steps", num_steps)
    evaluate_every = check_positive_int("evaluate_every", evaluate_every)
    _check_source(batches, num_steps)
    watches_loss = isinstance(scheduler, ReduceLROnPlateau)
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "the scheduler belongs to another optimizer than the one given"
        )
    if patience is not None:
        patience = check_positive_int("patience", patience)
    if held_out is not None:
        held_out = [as_batch(batch) for batch in as_collection("held_out", held_out)]
        if not held_out:
            raise ValueError("held_out holds no batch; None means no evaluation")
    elif patience is not None:
        raise ValueError(f"patience ({patience}) needs held_out batches to watch")
    elif watches_loss:
        raise ValueError("ReduceLROnPlateau needs held_out batches to watch")
    history = History()
    best_weights = None
    source = iter(batches)
    steps = range(1, num_steps + 1)
    try:
        for step in tqdm(steps, leave=False, unit="step") if progress else steps:
            batch = next(source, None)
            if batch is None:
                raise ValueError(
                    f"the batches ran out after {step - 1} of {num_steps} steps"
                )
            batch = as_batch(batch).to(_device(model))
            with _uninterrupted():
                rate = float(optimizer.param_groups[0]["lr"])
                history.add_step(train_step(model, batch, optimizer, clip_norm), rate)
                if scheduler is not None and not watches_loss:
                    scheduler.step()
            if held_out is None or (step % evaluate_every and step != num_steps):
                continue
            evaluation = evaluate(model, held_out)
            with _uninterrupted():
                history.add_evaluation(step, evaluation)
                if watches_loss:
                    scheduler.step(evaluation.loss)
                if patience is not None and history.evaluations_since_best == 0:
                    best_weights = copy.deepcopy(model.state_dict())
            if history.evaluations_since_best == patience:
                history.stopped_early = step < num_steps
                break
    except KeyboardInterrupt:
        history.interrupted = True
    except Exception as error:
        error.history = history
        raise
    finally:
        if best_weights is not None:
            with _uninterrupted():
                model.load_state_dict(best_weights)
    return history


def _check_source(batches: Iterable[Batch], num_steps: int) -> None:
    if is_batch(batches):
        raise TypeError(
            "batches is one batch: itertools.repeat(batch) trains on it again and again"
        )
    try:
        count = len(batches)
    except TypeError:
        return  # An iterator shows only at its end how many it had.
    if count < num_steps:
        raise ValueError(f"batches holds {count}, fewer than num_steps ({num_steps})")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C waiting for the end of the block, so that it is run whole."""
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(handler):
        yield  # Ctrl-C calls nothing here.
        return
    caught = []
    signal.signal(signal.SIGINT, lambda *arguments: caught.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        handler(*caught[0])


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
