"""Checks for the exercises of chapter 8."""

import torch
from torch import Tensor

from transformer.batching import Batch, make_batch
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


def _sorted_batch(sources: list[list[int]]) -> Batch:
    return make_batch(sources, [sorted(source) for source in sources])


def _sorted_batch_cases() -> list[tuple]:
    return [([[5, 14, 3]],), ([[9, 4], [7, 3, 7, 12], [8]],), ([[3, 6, 6], [11, 5]],)]


def _source_sorted_too(sources: list[list[int]]) -> Batch:
    targets = [sorted(source) for source in sources]
    return make_batch(targets, targets)


def _source_and_target_swapped(sources: list[list[int]]) -> Batch:
    return make_batch([sorted(source) for source in sources], sources)


def _not_sorted(sources: list[list[int]]) -> Batch:
    return make_batch(sources, sources)


def _largest_first(sources: list[list[int]]) -> Batch:
    return make_batch(sources, [sorted(source, reverse=True) for source in sources])


def _each_symbol_once(sources: list[list[int]]) -> Batch:
    return make_batch(sources, [sorted(set(source)) for source in sources])


def _rows_sorted(sources: list[list[int]]) -> Batch:
    return make_batch(sources, sorted(sources))


def _targets_alone(sources: list[list[int]]) -> list[list[int]]:
    return [sorted(source) for source in sources]


check_sorted_batch = SelfCheck(
    solution=_sorted_batch,
    cases=_sorted_batch_cases,
    mistakes=(
        Mistake(
            _source_sorted_too,
            "You sort the source as well, so the model would learn to copy. `sorted` "
            "makes a new list; `list.sort` changes the one it is called on.",
        ),
        Mistake(
            _source_and_target_swapped,
            "The two are swapped: `make_batch` takes what the model reads first, and "
            "what it must write second.",
        ),
        Mistake(
            _not_sorted,
            "Your targets stand in the order of their sources. Sort each of them.",
        ),
        Mistake(
            _largest_first,
            "You begin with the largest symbol. The smallest is to come first.",
        ),
        Mistake(
            _each_symbol_once,
            "A set holds each symbol once. One that stands twice in the source must be "
            "written twice.",
        ),
        Mistake(
            _rows_sorted,
            "You put the rows in order. Sort the symbols within each row.",
        ),
        Mistake(
            _targets_alone,
            "These are the targets, as lists. `make_batch` turns sources and targets "
            "into the three tensors of a batch.",
        ),
    ),
)
