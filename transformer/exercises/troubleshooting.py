"""Checks for the exercises of chapter 10."""

from transformer.exercises.self_check import Mistake, SelfCheck


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
