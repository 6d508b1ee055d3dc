"""Learning-rate warm-up (paper, section 5.3)."""

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
