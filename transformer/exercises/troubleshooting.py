"""Checks for the exercises of chapter 10, and the runs of its unlabelled curves."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from transformer.batching import Batch
from transformer.exercises.self_check import (
    Mistake,
    SelfCheck,
    attempt,
    is_blank,
    one_line,
)
from transformer.notebook import print_anywhere
from transformer.tasks import CopyTask
from transformer.training import History
from transformer.transformer import Transformer


@dataclass(frozen=True)
class Reading:
    """Checks what a reader has written behind each name: the cause of a curve, a forecast.

    Attributes:
        right: The right answer for each name.
        choices: The answers that may be given.
        looks: For each name, where to look again.
        confusions: Hints for single wrong answers; they come before `looks`.
    """

    right: Mapping[str, Any]
    choices: tuple
    looks: Mapping[str, str]
    confusions: Mapping[tuple[str, Any], str] = field(default_factory=dict)

    def __call__(self, answers: Mapping[str, Any]) -> None:
        """Print what `verdict` says."""
        print_anywhere(self.verdict(answers))

    def verdict(self, answers: Any) -> str:
        """One line in all if everything is right or blank, else one for each wrong name."""
        given, error = attempt(lambda: {name: answers.get(name) for name in self.right})
        if error is not None or not isinstance(answers, Mapping):
            return f"✗ Pass a dictionary, as in the exercise: {self._blank()}"
        if all(map(is_blank, given.values())):
            return f"✗ Nothing is filled in yet: {self._choices()} behind each name."
        lines = [self._line(name, answer) for name, answer in given.items()]
        wrong = [f"✗ {line}" for line in lines if line]
        return "\n".join(wrong) or f"✓ Right on all {len(self.right)}."

    def _line(self, name: str, answer: Any) -> str | None:
        if is_blank(answer):
            return f"{name} has no answer yet."
        if type(answer) is not type(self.right[name]) or answer not in self.choices:
            return f"{name}: {self._choices()}, not {one_line(answer)}."
        if answer == self.right[name]:
            return None
        return f"{name}: {self.confusions.get((name, answer), self.looks[name])}"

    def _choices(self) -> str:
        *others, last = map(repr, self.choices)
        return f"put {', '.join(others)} or {last}"

    def _blank(self) -> str:
        return f"{{{', '.join(f'{name!r}: ...' for name in self.right)}}}"


def unlabelled_runs(
    build: Callable[..., Transformer], run: Callable[..., History], task: CopyTask
) -> tuple[dict[str, Transformer], dict[str, History]]:
    """Six models and the histories of their training; five of them have a fault."""

    def shift_forgotten() -> Iterator[Batch]:
        for batch in task.batches(64, torch.Generator().manual_seed(0)):
            yield batch._replace(tgt_out=batch.tgt_in)

    def jump(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda done: 1 if done < 75 else 30
        )

    models = {letter: build() for letter in "ABCDEF"}
    models["C"] = build(dropout=0.1)
    same_rows = [task.sample(32, torch.Generator().manual_seed(2))] * 150
    differences = {
        "A": {"batches": shift_forgotten()},
        "B": {"learning_rate": 3e-4},
        "C": {},
        "D": {"schedule": jump},
        "E": {"batches": same_rows},
        "F": {"learning_rate": 9e-2},
    }
    histories = {
        letter: run(models[letter], evaluate_every=10, **difference)
        for letter, difference in differences.items()
    }
    return models, histories


check_causes = Reading(
    right={"A": 5, "B": 3, "C": 1, "D": 6, "E": 4, "F": 2},
    choices=(1, 2, 3, 4, 5, 6, 7),
    looks={
        "A": "How soon is the training loss at zero? Then read the decoded row token "
        "by token.",
        "B": "Look at the end of both curves. Has this run stopped falling?",
        "C": "In which of the two losses is dropout on? And is the decoded row right?",
        "D": "Find the step at which the curves change. What were they like before?",
        "E": "Find the lowest held-out point. What does each loss do after it?",
        "F": "This run falls within a few steps and then stays. Compare the decoded row "
        "with the source, and the height with the plateau of problem 1.",
    },
    confusions={
        ("A", 4): "Learning by heart takes longer, and the held-out loss falls first. "
        "Here it never does. Read the decoded row.",
        ("B", 2): "Too high a rate gives curves that are flat at the end. These still "
        "fall at the last step.",
        ("C", 4): "With too little data the held-out loss lies above the training "
        "loss. Here it lies below.",
        ("D", 2): "At too high a rate from the first step on, the first half would "
        "not have been learned.",
        ("E", 5): "Without the shift the held-out loss never falls. Here it does at "
        "first.",
        ("F", 3): "Too low a rate gives curves that still fall at the end. These have "
        "been flat for a long time.",
    },
)

check_forecast = Reading(
    right={
        "no causal mask": True,
        "wrong pairs": True,
        "width 2": False,
        "rate 0.09": False,
    },
    choices=(True, False),
    looks={
        "no causal mask": "What must be said at each position, and what may be read "
        "there?",
        "wrong pairs": "These pairs follow no rule. But are 16 rows too many to be "
        "remembered?",
        "width 2": "How many different vectors are left of 2 entries after layer "
        "normalisation?",
        "rate 0.09": "Fewer rows do not make a step any shorter. What did this rate do "
        "in problem 1?",
    },
)


def _diagnosis(training: list[float], held_out: list[float], vocab_size: int) -> str:
    if training[-1] > 0.8 * math.log(vocab_size):
        return "stuck"
    if held_out[-1] > min(held_out) + 0.1:
        return "overfitting"
    if held_out[-1] < held_out[-3] - 0.05:
        return "unfinished"
    return "healthy"


def _diagnosis_cases() -> list[tuple]:
    return [
        # The held-out loss goes up and down a little.
        ([2.5, 0.9, 0.1, 0.06, 0.05], [2.4, 0.8, 0.10, 0.09, 0.11], 15),
        ([2.6, 2.4, 2.4, 2.4], [2.6, 2.4, 2.4, 2.4], 15),
        # Far from stuck: the vocabulary is larger. Stuck: it is smaller.
        ([6.0, 3.0, 2.4, 2.4], [6.0, 3.0, 2.4, 2.4], 1_000),
        ([1.4, 1.3, 1.3, 1.3], [1.4, 1.3, 1.3, 1.3], 4),
        # The held-out loss rises, and slowly.
        ([2.0, 0.9, 0.3, 0.1], [1.8, 1.5, 2.4, 3.3], 15),
        ([2.0, 0.9, 0.3, 0.1], [1.8, 1.5, 1.58, 1.65], 15),
        # It rises steeply, but not above where it began.
        ([2.4, 0.8, 0.3, 0.1], [2.5, 0.9, 1.2, 1.9], 15),
        # It has risen, and now falls again.
        ([2.4, 0.8, 0.3, 0.1], [0.5, 2.0, 1.5, 1.2], 15),
        # A gap that does not grow is no overfitting.
        ([2.0, 0.5, 0.11, 0.1], [2.2, 0.9, 0.52, 0.5], 15),
        ([2.0, 0.5, 0.11, 0.1], [2.2, 0.5, 0.51, 0.5], 15),
        # Stuck, and the held-out loss rises too: the first rule that applies.
        ([2.6, 2.5, 2.5, 2.5], [2.4, 2.5, 2.6, 2.7], 15),
        # Falls little in each evaluation, but more than 0.05 in two.
        ([1.2, 1.1, 1.0, 0.9], [0.97, 0.93, 0.90, 0.87], 15),
        # The training loss still falls, the held-out loss does not.
        ([1.2, 0.9, 0.6, 0.3], [1.2, 0.9, 0.89, 0.88], 15),
    ]


def _fixed_vocabulary(training: list, held_out: list, _vocab_size: int) -> str:
    return _diagnosis(training, held_out, 15)


def _in_bits(training: list, held_out: list, vocab_size: int) -> str:
    return _diagnosis(training, held_out, vocab_size ** (1 / math.log(2)))


def _held_out_is_stuck(training: list, held_out: list, vocab_size: int) -> str:
    return _diagnosis([*training[:-1], held_out[-1]], held_out, vocab_size)


def _overfitting_first(training: list, held_out: list, vocab_size: int) -> str:
    if held_out[-1] > min(held_out) + 0.1:
        return "overfitting"
    return _diagnosis(training, held_out, vocab_size)


def _unfinished_first(training: list, held_out: list, vocab_size: int) -> str:
    if held_out[-1] < held_out[-3] - 0.05:
        return "unfinished"
    return _diagnosis(training, held_out, vocab_size)


def _after_stuck(overfits: bool, unfinished: bool) -> str:
    if overfits:
        return "overfitting"
    return "unfinished" if unfinished else "healthy"


def _variant(training: list, held_out: list, vocab_size: int, **rules: bool) -> str:
    """The right rules, with one of them replaced."""
    if training[-1] > 0.8 * math.log(vocab_size):
        return "stuck"
    usual = {
        "overfits": held_out[-1] > min(held_out) + 0.1,
        "unfinished": held_out[-1] < held_out[-3] - 0.05,
    }
    return _after_stuck(**(usual | rules))


def _gap(training: list, held_out: list, vocab_size: int) -> str:
    overfits = held_out[-1] > training[-1] + 0.1
    return _variant(training, held_out, vocab_size, overfits=overfits)


def _above_the_one_before(training: list, held_out: list, vocab_size: int) -> str:
    overfits = held_out[-1] > held_out[-2] + 0.1
    return _variant(training, held_out, vocab_size, overfits=overfits)


def _above_the_first(training: list, held_out: list, vocab_size: int) -> str:
    overfits = held_out[-1] > held_out[0] + 0.1
    return _variant(training, held_out, vocab_size, overfits=overfits)


def _any_rise(training: list, held_out: list, vocab_size: int) -> str:
    overfits = held_out[-1] > min(held_out)
    return _variant(training, held_out, vocab_size, overfits=overfits)


def _one_evaluation_back(training: list, held_out: list, vocab_size: int) -> str:
    unfinished = held_out[-1] < held_out[-2] - 0.05
    return _variant(training, held_out, vocab_size, unfinished=unfinished)


def _training_unfinished(training: list, held_out: list, vocab_size: int) -> str:
    unfinished = training[-1] < training[-3] - 0.05
    return _variant(training, held_out, vocab_size, unfinished=unfinished)


check_diagnosis = SelfCheck(
    solution=_diagnosis,
    cases=_diagnosis_cases,
    mistakes=(
        Mistake(
            _fixed_vocabulary,
            "Your limit for stuck is that of 15 tokens. Compute it from `vocab_size`.",
        ),
        Mistake(_in_bits, "Take the natural logarithm: the loss is in nats."),
        Mistake(
            _held_out_is_stuck,
            "Stuck is about the training loss. A held-out loss that is as high may have "
            "been low before.",
        ),
        Mistake(
            _overfitting_first,
            "Ask for stuck first: who has learned nothing has nothing by heart.",
        ),
        Mistake(
            _unfinished_first,
            "Ask for stuck and for overfitting before you ask for unfinished.",
        ),
        Mistake(
            _gap,
            "A gap between the two losses is not overfitting yet. The held-out loss "
            "must have risen: compare it with its own lowest value.",
        ),
        Mistake(
            _above_the_one_before,
            "The held-out loss may rise slowly. Compare the last value with the lowest, "
            "not with the one before.",
        ),
        Mistake(
            _above_the_first,
            "The held-out loss falls before it rises. Compare the last value with the "
            "lowest, not with the first.",
        ),
        Mistake(
            _any_rise,
            "Losses go up and down a little. Only a rise of more than 0.1 counts.",
        ),
        Mistake(
            _one_evaluation_back,
            "Look two evaluations back for unfinished: index -3, not -2.",
        ),
        Mistake(
            _training_unfinished,
            "The training loss may fall for ever. Unfinished is about the held-out loss.",
        ),
    ),
)


def _early_stop(losses: list[float], patience: int) -> tuple[int, int]:
    best = 0
    for index, loss in enumerate(losses):
        if loss < losses[best]:
            best = index
        if index - best == patience:
            return index + 1, best
    return len(losses), best


def _stop_cases() -> list[tuple]:
    return [
        ([4.0], 1),
        ([3.0, 2.0, 1.0], 2),
        ([3.0, 2.0, 2.5, 2.4, 1.0], 2),
        ([2.0, 1.0, 1.5, 0.5], 1),
        # Bad evaluations, but never three in a row before the end.
        ([5.0, 6.0, 6.0, 4.0, 5.0, 5.0, 3.0, 4.0, 4.0, 4.0, 1.0], 3),
        # Better than the one before, but not than the best.
        ([3.0, 5.0, 4.0, 3.5, 1.0], 2),
        ([2.0, 2.0, 2.0, 1.0], 2),
    ]


def _one_too_late(losses: list[float], patience: int) -> tuple[int, int]:
    return _early_stop(losses, patience + 1)


def _one_too_early(losses: list[float], patience: int) -> tuple[int, int]:
    best = 0
    for index, loss in enumerate(losses):
        if loss < losses[best]:
            best = index
        if index - best >= patience - 1 and index > 0:
            return index + 1, best
    return len(losses), best


def _never_reset(losses: list[float], patience: int) -> tuple[int, int]:
    best, bad = 0, 0
    for index, loss in enumerate(losses):
        if loss < losses[best]:
            best = index
        elif index > 0:
            bad += 1
        if bad == patience:
            return index + 1, best
    return len(losses), best


def _than_the_one_before(losses: list[float], patience: int) -> tuple[int, int]:
    best, bad = 0, 0
    for index in range(1, len(losses)):
        bad = 0 if losses[index] < losses[index - 1] else bad + 1
        best = index if losses[index] < losses[best] else best
        if bad == patience:
            return index + 1, best
    return len(losses), best


def _ties_improve(losses: list[float], patience: int) -> tuple[int, int]:
    best = 0
    for index, loss in enumerate(losses):
        if loss <= losses[best]:
            best = index
        if index - best == patience:
            return index + 1, best
    return len(losses), best


def _never_stops(losses: list[float], _patience: int) -> tuple[int, int]:
    return len(losses), losses.index(min(losses))


def _keeps_the_last(losses: list[float], patience: int) -> tuple[int, int]:
    made, _ = _early_stop(losses, patience)
    return made, made - 1


def _looks_ahead(losses: list[float], patience: int) -> tuple[int, int]:
    made, _ = _early_stop(losses, patience)
    return made, losses.index(min(losses))


def _counts_from_zero(losses: list[float], patience: int) -> tuple[int, int]:
    made, best = _early_stop(losses, patience)
    return made - 1, best


check_early_stop = SelfCheck(
    solution=_early_stop,
    cases=_stop_cases,
    mistakes=(
        Mistake(
            _one_too_late,
            "You stop one evaluation too late: stop as soon as `patience` evaluations "
            "have passed since the best.",
        ),
        Mistake(
            _one_too_early,
            "You stop one evaluation too early: the best one itself does not count.",
        ),
        Mistake(
            _never_reset,
            "Your counter of bad evaluations never goes back. A new best starts it again.",
        ),
        Mistake(
            _than_the_one_before,
            "You compare with the evaluation before. Compare with the best so far.",
        ),
        Mistake(_ties_improve, "An equal loss is no improvement: it must be lower."),
        Mistake(_never_stops, "Your run never stops before the list ends."),
        Mistake(
            _keeps_the_last,
            "The second number is the index of the best evaluation, not of the last.",
        ),
        Mistake(
            _looks_ahead,
            "Your best evaluation lies after the end of the run, where nobody has been.",
        ),
        Mistake(
            _counts_from_zero,
            "The first number says how many evaluations were made, so it begins at 1.",
        ),
    ),
)


def _combined_loss(losses: list[float], counts: list[int]) -> float:
    total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
    return total / sum(counts)


def _combined_cases() -> list[tuple]:
    return [
        ([2.0, 4.0], [5, 5]),
        ([1.0, 3.0], [1, 3]),
        ([0.5, 1.5, 2.5], [7, 3, 2]),
        ([2.0, 0.0], [11, 0]),
    ]


def _plain_mean(losses: list[float], _counts: list[int]) -> float:
    return sum(losses) / len(losses)


def _plain_sum(losses: list[float], _counts: list[int]) -> float:
    return sum(losses)


def _not_divided(losses: list[float], counts: list[int]) -> float:
    return _combined_loss(losses, counts) * sum(counts)


def _divided_by_parts(losses: list[float], counts: list[int]) -> float:
    return _combined_loss(losses, counts) * sum(counts) / len(losses)


def _weighed_twice(losses: list[float], counts: list[int]) -> float:
    return _combined_loss(losses, counts) / len(losses)


check_combined_loss = SelfCheck(
    solution=_combined_loss,
    cases=_combined_cases,
    mistakes=(
        Mistake(
            _plain_mean,
            "The mean of the parts is right only if all parts have equally many tokens.",
        ),
        Mistake(_plain_sum, "A sum grows with the number of parts. A loss is a mean."),
        Mistake(
            _not_divided,
            "That is the sum over all tokens. Divide it by how many tokens there are.",
        ),
        Mistake(
            _divided_by_parts,
            "Divide by the number of tokens, not by the number of parts.",
        ),
        Mistake(
            _weighed_twice,
            "The shares of the tokens sum to 1 already: do not divide by the parts too.",
        ),
    ),
)
