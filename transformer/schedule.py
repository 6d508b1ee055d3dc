"""Learning rates that rise and fall: the paper's (section 5.3), linear and cosine decay."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from transformer.checks import check_positive_int


def warmup_rate(step: int, d_model: int, warmup_steps: int = 4000) -> float:
    """The learning rate of step `step`, counted from 1.

        lr = d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)       (equation 3)

    It grows linearly for `warmup_steps` steps, then falls with the inverse square root.
    """
    step = check_positive_int("step", step)
    d_model = check_positive_int("d_model", d_model)
    warmup_steps = check_positive_int("warmup_steps", warmup_steps)
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def warmup_schedule(
    optimizer: Optimizer, d_model: int, warmup_steps: int = 4000
) -> LambdaLR:
    """A scheduler that multiplies the optimizer's own rate by `warmup_rate`.

    Build the optimizer with `lr=1.0` for the paper's rates.
    """
    d_model = check_positive_int("d_model", d_model)
    warmup_steps = check_positive_int("warmup_steps", warmup_steps)
    return LambdaLR(
        optimizer, lambda done: warmup_rate(done + 1, d_model, warmup_steps)
    )


def linear_decay(step: int, warmup_steps: int, num_steps: int) -> float:
    """The share of the peak rate that step `step`, counted from 1, is taken at.

    It grows linearly to 1 at step `warmup_steps`, then falls linearly: step `num_steps` is
    the last with a rate above 0.

    Args:
        warmup_steps: 1 begins at the peak.
    """
    rest = _share_left(step, warmup_steps, num_steps)
    return min(step / warmup_steps, rest)


def cosine_decay(step: int, warmup_steps: int, num_steps: int) -> float:
    """As `linear_decay`, but falling along half a cosine.

    So the rate stays long near the peak, and long near 0.
    """
    rest = _share_left(step, warmup_steps, num_steps)
    return min(step / warmup_steps, (1 - math.cos(math.pi * rest)) / 2)


def _share_left(step: int, warmup_steps: int, num_steps: int) -> float:
    """1 until the end of warm-up, then the share of the steps that are still to come."""
    step = check_positive_int("step", step)
    _check_steps(warmup_steps, num_steps)
    left = (num_steps + 1 - step) / (num_steps + 1 - warmup_steps)
    return min(max(left, 0.0), 1.0)


def _check_steps(warmup_steps: int, num_steps: int) -> None:
    check_positive_int("warmup_steps", warmup_steps)
    check_positive_int("num_steps", num_steps)
    if warmup_steps > num_steps:
        raise ValueError(
            f"warmup_steps ({warmup_steps}) exceeds num_steps ({num_steps}): "
            "the rate would never reach its peak"
        )


def linear_schedule(
    optimizer: Optimizer, warmup_steps: int, num_steps: int
) -> LambdaLR:
    """A scheduler that multiplies the optimizer's own rate, the peak, by `linear_decay`."""
    return _decay_schedule(linear_decay, optimizer, warmup_steps, num_steps)


def cosine_schedule(
    optimizer: Optimizer, warmup_steps: int, num_steps: int
) -> LambdaLR:
    """A scheduler that multiplies the optimizer's own rate, the peak, by `cosine_decay`."""
    return _decay_schedule(cosine_decay, optimizer, warmup_steps, num_steps)


def _decay_schedule(
    decay: Callable[[int, int, int], float],
    optimizer: Optimizer,
    warmup_steps: int,
    num_steps: int,
) -> LambdaLR:
    _check_steps(warmup_steps, num_steps)
    return LambdaLR(optimizer, lambda done: decay(done + 1, warmup_steps, num_steps))
