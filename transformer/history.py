"""What happened during training, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class StepResult(NamedTuple):
    """What one training step measured, before the weights changed."""

    loss: float
    """Mean cross-entropy per target token, dropout on."""
    gradient_norm: float
    """Euclidean norm over all gradients, before clipping."""


class Evaluation(NamedTuple):
    """Loss and accuracy per target token, PAD left out, dropout off."""

    loss: float
    accuracy: float


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
    out_of_time: bool = False
    """Whether `max_seconds` ended the run before its last step."""

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

    def __add__(self, later: History) -> History:
        """Both as one run: the steps of `later` come after those of this one."""
        return History(
            self.loss + later.loss,
            self.learning_rate + later.learning_rate,
            self.gradient_norm + later.gradient_norm,
            self.held_out_steps
            + [self.num_steps + step for step in later.held_out_steps],
            self.held_out_loss + later.held_out_loss,
            self.held_out_accuracy + later.held_out_accuracy,
            later.stopped_early,
            later.interrupted,
            later.out_of_time,
        )
