"""Checks for the exercises of chapter 8."""

import torch
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.tokens import END, PAD, START


def _exact_match(decoded: Tensor, expected: Tensor) -> float:
    width = max(decoded.size(1), expected.size(1))
    same = _widen(decoded, width) == _widen(expected, width)
    return same.all(dim=1).double().mean().item()


def _widen(tokens: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, width - tokens.size(1)), value=PAD)


def _exact_match_cases() -> list[tuple]:
    def rows(*symbols: list[int], width: int) -> Tensor:
        table = torch.full((len(symbols), width), PAD)
        for row, own in enumerate(symbols):
            table[row, : len(own)] = torch.tensor(own)
        return table

    def target(*symbols: list[int], width: int) -> Tensor:
        return rows(*([START, *own, END] for own in symbols), width=width)

    expected = target([5, 6, 7], [8], [9, 10], width=5)
    return [
        (target([5, 6, 7], [8], [9, 11], width=5), expected),
        # Stops early, in a narrower tensor: all that it says is right.
        (rows([START, 8, END], [START, 5, 6], width=3), target([8], [5, 6], width=4)),
        # Runs on beyond END, in a wider tensor.
        (rows([START, 8, END, 8, END], width=5), target([8], width=3)),
        # The other way round: what is decoded is narrower, and right.
        (target([8], [9], width=3), target([8], [9], width=6)),
        # All symbols are there, but no END; then one symbol too many.
        (rows([START, 8, 9, PAD], width=4), rows([START, 8, 9, END], width=4)),
        (target([8, 9], width=4), target([8], width=3)),
    ]


def _per_token(decoded: Tensor, expected: Tensor) -> float:
    width = max(decoded.size(1), expected.size(1))
    same = _widen(decoded, width) == _widen(expected, width)
    return same.double().mean().item()


def _per_real_token(decoded: Tensor, expected: Tensor) -> float:
    width = max(decoded.size(1), expected.size(1))
    expected = _widen(expected, width)
    same = _widen(decoded, width) == expected
    return same[expected != PAD].double().mean().item()


def _without_padding(decoded: Tensor, expected: Tensor) -> float:
    return (decoded == expected).all(dim=1).double().mean().item()


def _cut_to_the_shorter(decoded: Tensor, expected: Tensor) -> float:
    width = min(decoded.size(1), expected.size(1))
    same = decoded[:, :width] == expected[:, :width]
    return same.all(dim=1).double().mean().item()


def _ignores_what_follows(decoded: Tensor, expected: Tensor) -> float:
    width = max(decoded.size(1), expected.size(1))
    expected = _widen(expected, width)
    same = (_widen(decoded, width) == expected) | (expected == PAD)
    return same.all(dim=1).double().mean().item()


def _symbols_alone(decoded: Tensor, expected: Tensor) -> float:
    def strip(row: list[int]) -> list[int]:
        return [token for token in row if token not in (PAD, START, END)]

    pairs = zip(decoded.tolist(), expected.tolist(), strict=True)
    return sum(strip(own) == strip(right) for own, right in pairs) / len(expected)


def _by_length(decoded: Tensor, expected: Tensor) -> float:
    return float(torch.equal(decoded, expected))


check_exact_match = SelfCheck(
    solution=_exact_match,
    cases=_exact_match_cases,
    mistakes=(
        Mistake(
            _per_token,
            "You count tokens, PAD among them. A row counts once, and only if all of it "
            "is right: use `all(dim=1)` before `mean`.",
        ),
        Mistake(
            _per_real_token,
            "You count tokens. A row counts once, and only if all of it is right: use "
            "`all(dim=1)` before `mean`.",
        ),
        Mistake(
            _without_padding,
            "The two tensors may differ in width: fill the narrower one with PAD first.",
        ),
        Mistake(
            _cut_to_the_shorter,
            "You compare the common columns only, so a row that stops early or runs on "
            "passes. Fill the narrower tensor with PAD instead of cutting the wider one.",
        ),
        Mistake(
            _ignores_what_follows,
            "You skip the columns where the target is PAD, so a row that never ends "
            "passes. There, the answer must be PAD too.",
        ),
        Mistake(
            _symbols_alone,
            "You drop END before you compare. A model that does not stop has not copied.",
        ),
        Mistake(
            _by_length,
            "You ask whether all rows are right at once. The share of right rows is "
            "wanted.",
        ),
    ),
)
