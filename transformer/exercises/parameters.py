"""Checks for the exercises of chapter 4."""

from functools import cache

import torch
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.transformer import Transformer, count_parameters


def _dropout(x: Tensor, is_kept: Tensor, p: float) -> Tensor:
    return x * is_kept / (1 - p)


def _dropout_cases() -> list[tuple]:
    kept = torch.tensor([True, False, True])
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.tensor([1.0, 2.0, 3.0]), kept, 0.5),
        (torch.tensor([4.0, -8.0, 0.0]), kept, 0.2),
        (torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, dtype=torch.bool), 0.0),
        (
            torch.randn(3, 5, generator=generator),
            torch.rand(3, 5, generator=generator) > 0.1,
            0.1,
        ),
    ]


def _not_scaled(x: Tensor, is_kept: Tensor, _p: float) -> Tensor:
    return x * is_kept


def _scaled_by_p(x: Tensor, is_kept: Tensor, p: float) -> Tensor:
    return x * is_kept / torch.tensor(p)


def _scaled_down(x: Tensor, is_kept: Tensor, p: float) -> Tensor:
    return x * is_kept * (1 - p)


def _deleted_kept(x: Tensor, is_kept: Tensor, p: float) -> Tensor:
    return x * ~is_kept / (1 - p)


def _removed(x: Tensor, is_kept: Tensor, p: float) -> Tensor:
    return x[is_kept] / (1 - p)


def _scaled_by_what_was_kept(x: Tensor, is_kept: Tensor, _p: float) -> Tensor:
    return x * is_kept / is_kept.float().mean()


check_dropout = SelfCheck(
    solution=_dropout,
    cases=_dropout_cases,
    mistakes=(
        Mistake(
            _not_scaled,
            "The right entries are deleted, but the others are not scaled up: "
            "divide by the share that is kept on average.",
        ),
        Mistake(
            _scaled_by_p,
            "You divide by p, the share that is deleted. Divide by the share that "
            "is kept.",
        ),
        Mistake(
            _scaled_down,
            "You multiply by 1 - p, which makes the entries smaller still. "
            "Divide instead.",
        ),
        Mistake(
            _deleted_kept,
            "You delete what is to be kept: `is_kept` is True for the entries that stay.",
        ),
        Mistake(
            _removed,
            "The deleted entries are gone, so the shape has changed. Put 0 in their place.",
        ),
        Mistake(
            _scaled_by_what_was_kept,
            "You divide by the share that happened to stay this time. Divide by the "
            "share that stays on average, which p tells you.",
        ),
    ),
)


@cache
def _count(d_model: int, num_heads: int) -> int:
    model = Transformer(
        15,
        15,
        d_model,
        num_heads,
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=4 * d_model,
        max_len=16,
    )
    return count_parameters(model)


def _widest(budget: int, num_heads: int) -> int:
    d_model = 0
    while _count(d_model + num_heads, num_heads) <= budget:
        d_model += num_heads
    return d_model


def _widest_cases() -> list[tuple]:
    return [
        (50_000, 4),
        (50_000, 7),
        # Spent to the last parameter.
        (_count(24, 4), 4),
        (_count(24, 4) - 1, 4),
        # Too little for the narrowest model.
        (900, 3),
        (20_000, 1),
    ]


def _below_the_budget(budget: int, num_heads: int) -> int:
    return _widest(budget - 1, num_heads)


def _first_beyond(budget: int, num_heads: int) -> int:
    return _widest(budget, num_heads) + num_heads


def _nearest_or_beyond(budget: int, num_heads: int) -> int:
    below = _widest(budget, num_heads)
    above = below + num_heads
    gap = budget - _count(below, num_heads) if below else budget
    return below if gap <= _count(above, num_heads) - budget else above


def _heads_ignored(budget: int, _num_heads: int) -> int:
    return _widest(budget, 1)


def _narrowest(budget: int, num_heads: int) -> int:
    return num_heads if _count(num_heads, num_heads) <= budget else 0


def _count_instead(budget: int, num_heads: int) -> int:
    d_model = _widest(budget, num_heads)
    return _count(d_model, num_heads) if d_model else 0


def _one_head_instead(budget: int, num_heads: int) -> int:
    return _widest(budget, num_heads) // num_heads


check_widest = SelfCheck(
    solution=_widest,
    cases=_widest_cases,
    mistakes=(
        Mistake(
            _below_the_budget,
            "A model that spends the budget to the last parameter is still allowed: "
            "compare with `<=`.",
        ),
        Mistake(
            _first_beyond,
            "You return the first width that no longer fits. Return the one before it.",
        ),
        Mistake(
            _nearest_or_beyond,
            "Your width comes nearest to the budget, but may exceed it. "
            "It is a limit, not a goal.",
        ),
        Mistake(
            _heads_ignored,
            "Some of your widths cannot be built: `num_heads` must divide `d_model`.",
        ),
        Mistake(
            _narrowest,
            "You return the first width that fits. Go on: a wider one may fit too.",
        ),
        Mistake(
            _count_instead,
            "You return the number of parameters. The question is for `d_model`.",
        ),
        Mistake(
            _one_head_instead,
            "You return the entries of one head. The question is for `d_model`, "
            "all heads together.",
        ),
    ),
)


def _operations(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    tokens = batch * length
    projections = 4 * tokens * d_model**2
    d_head = d_model // num_heads
    scores_and_mixtures = 2 * batch * num_heads * length**2 * d_head
    feed_forward = 2 * tokens * d_model * d_ff
    return 2 * (projections + scores_and_mixtures + feed_forward)


def _operations_cases() -> list[tuple]:
    return [
        (1, 1, 2, 1, 3),
        (3, 5, 4, 2, 7),
        (2, 11, 6, 3, 5),
        (1, 13, 6, 1, 24),
        (32, 20, 128, 4, 512),
    ]


def _multiplications(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    return _operations(batch, length, d_model, num_heads, d_ff) // 2


def _no_attention(
    batch: int, length: int, d_model: int, _num_heads: int, d_ff: int
) -> int:
    return 2 * batch * length * (4 * d_model**2 + 2 * d_model * d_ff)


def _no_mixtures(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    whole = _operations(batch, length, d_model, num_heads, d_ff)
    return whole - 2 * batch * length**2 * d_model


def _full_width_per_head(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    whole = _operations(batch, length, d_model, num_heads, d_ff)
    return whole + 4 * (num_heads - 1) * batch * length**2 * d_model


def _whole_batch_looks(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    whole = _operations(batch, length, d_model, num_heads, d_ff)
    return whole + 4 * (batch**2 - batch) * length**2 * d_model


def _three_projections(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    whole = _operations(batch, length, d_model, num_heads, d_ff)
    return whole - 2 * batch * length * d_model**2


def _no_way_back(
    batch: int, length: int, d_model: int, num_heads: int, d_ff: int
) -> int:
    whole = _operations(batch, length, d_model, num_heads, d_ff)
    return whole - 2 * batch * length * d_model * d_ff


def _one_row(_batch: int, length: int, d_model: int, num_heads: int, d_ff: int) -> int:
    return _operations(1, length, d_model, num_heads, d_ff)


check_operations = SelfCheck(
    solution=_operations,
    cases=_operations_cases,
    mistakes=(
        Mistake(
            _multiplications,
            "You count the multiplications alone. Each comes with an addition: times 2.",
        ),
        Mistake(
            _no_attention,
            "The linear maps are all there. The scores and the mixtures of attention "
            "are missing, which belong to no weight.",
        ),
        Mistake(
            _no_mixtures,
            "The scores are there, the mixtures are not: the weights meet the values "
            "in a second product.",
        ),
        Mistake(
            _full_width_per_head,
            "You give every head the whole width. Each has `d_model / num_heads` "
            "entries, so all together do the work of one.",
        ),
        Mistake(
            _whole_batch_looks,
            "In your count, a row of the batch looks at all others. Each looks at "
            "itself alone.",
        ),
        Mistake(
            _three_projections,
            "An attention has a fourth linear map: the output projection.",
        ),
        Mistake(
            _no_way_back,
            "The feed-forward network has two linear maps: to `d_ff` entries, and back.",
        ),
        Mistake(_one_row, "This is right for one row. There are `batch` of them."),
    ),
)
