"""One training step: forward, loss, backward, clip, update."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from transformer.batching import Batch, as_parts
from transformer.checks import check_number
from transformer.history import StepResult
from transformer.loss import summed_loss
from transformer.parallel import (
    bare_model,
    check_synchronised,
    sum_over_processes,
    synchronised,
    whole,
    world_size,
)
from transformer.transformer import Transformer


def train_step(
    model: Transformer,
    batch: Batch | Sequence[Batch],
    optimizer: Optimizer,
    clip_norm: float | None = 1.0,
    label_smoothing: float = 0.0,
) -> StepResult:
    """Forward, loss, backward, clip, update.

    The loss is the mean over all target tokens of the step, those of all parts and of all
    processes; each counts alike, PAD left out.

    A model in training mode stays as it is, the modes of its parts included. A model in
    evaluation mode is switched to training mode, except for parts whose parameters are all
    frozen (`requires_grad` is False).

    Args:
        batch: on the model's device; a list or tuple of its three tensors will do. Or a
            list of batches, which are the parts of one: see `in_parts`.
        optimizer: holds all parameters of the model, or some; only these are measured,
            clipped and changed.
        clip_norm: the gradients are scaled down to this norm if they exceed it; None:
            never.
        label_smoothing: this share of every target is spread evenly over the vocabulary
            (paper, section 5.4), in [0, 1). The loss that is reported stays the one
            without it, and so comparable with that of other runs and of `evaluate`.

    Raises:
        TypeError: if `batch` is no batch.
        ValueError: if `clip_norm` is not above 0, the optimizer holds no trainable
            parameter of the model, no token is left to learn from, or several processes
            would train a model each.
        FloatingPointError: if the loss or a gradient is infinite or NaN; the weights
            are then left as they were.
    """
    check_options(clip_norm, label_smoothing)
    check_synchronised(model)
    parts = as_parts(batch)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    trainable = {parameter for parameter in parameters if parameter.requires_grad}
    if trainable.isdisjoint(model.parameters()):
        raise ValueError(
            "the optimizer holds no trainable parameter of the model: build it anew "
            "from model.parameters()"
        )
    if not model.training:
        _switch_to_training(model)
    pad = bare_model(model).pad_token_id
    num_tokens = _count_tokens(parts, pad)
    loss = 0.0
    # Either may hold parameters that the other does not.
    model.zero_grad()
    optimizer.zero_grad()
    for part in parts:
        with synchronised(model, is_last=part is parts[-1]):
            logits = model(part.src, part.tgt_in)
            goal = summed_loss(logits, part.tgt_out, pad, label_smoothing)
            # What processes send each other is the mean of their gradients, not the sum.
            (goal * world_size() / num_tokens).backward()
        if label_smoothing > 0:
            goal = summed_loss(logits, part.tgt_out, pad)
        loss = loss + goal.detach()
    limit = math.inf if clip_norm is None else clip_norm
    gradient_norm = whole(nn.utils.clip_grad_norm_(parameters, limit))
    loss = sum_over_processes(loss) / num_tokens
    result = StepResult(loss.item(), gradient_norm.item())
    if not all(map(math.isfinite, result)):
        raise FloatingPointError(
            f"loss {result.loss} with gradient norm {result.gradient_norm}: training has "
            "diverged; lower the learning rate or clip the gradients"
        )
    optimizer.step()
    return result


def check_options(clip_norm: float | None, label_smoothing: float) -> None:
    """Raise unless `clip_norm` is None or above 0, and `label_smoothing` in [0, 1)."""
    check_number("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    if clip_norm is not None:
        check_number("clip_norm", clip_norm)
        if clip_norm <= 0:
            raise ValueError(
                f"clip_norm must be above 0, got {clip_norm}; None means no clipping"
            )


def _count_tokens(parts: list[Batch], pad_token_id: int) -> int:
    """Target tokens of the whole step, of all processes, PAD left out."""
    counts = torch.stack([(part.tgt_out != pad_token_id).sum() for part in parts])
    num_tokens = int(sum_over_processes(counts.sum()))
    if num_tokens == 0:
        shapes = ", ".join(str(list(part.tgt_out.shape)) for part in parts)
        raise ValueError(
            f"tgt_out {shapes} holds no token but PAD: nothing to learn from"
        )
    return num_tokens


def _switch_to_training(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        return
    module.training = True
    for child in module.children():
        _switch_to_training(child)
