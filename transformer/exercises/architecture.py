"""Checks for the exercises of chapter 2."""

import math

import torch
from torch import Tensor

from transformer.attention import attention_weights
from transformer.exercises.self_check import Mistake, SelfCheck


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return attention_weights(query, key, mask) @ value


def _attention_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def tensors(queries: int, keys: int, d_k: int, d_v: int) -> tuple[Tensor, ...]:
        return (
            torch.randn(queries, d_k, generator=generator),
            torch.randn(keys, d_k, generator=generator),
            torch.randn(keys, d_v, generator=generator),
        )

    toy = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]]),
    )
    everyone = torch.ones(2, 3, dtype=torch.bool)
    two_keys = torch.tensor([[True, True, False], [False, True, True]])
    large = tensors(3, 5, 7, 2)
    return [
        (*toy, everyone),
        (*toy, two_keys),
        (*tensors(5, 5, 3, 7), torch.ones(5, 5, dtype=torch.bool).tril()),
        # Scores of thousands: exp of them alone is infinite.
        (1_000 * large[0], *large[1:], torch.ones(3, 5, dtype=torch.bool)),
    ]


def _unscaled(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return _attention(query * math.sqrt(query.size(-1)), key, value, mask)


def _scaled_twice(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return _attention(query / math.sqrt(query.size(-1)), key, value, mask)


def _wrong_axis(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(query.size(-1))
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=0) @ value


def _inverted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(query.size(-1))
    return scores.masked_fill(mask, float("-inf")).softmax(dim=-1) @ value


def _unmasked(query: Tensor, key: Tensor, value: Tensor, _mask: Tensor) -> Tensor:
    return attention_weights(query, key) @ value


def _zero_scores(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(query.size(-1))
    return scores.masked_fill(~mask, 0.0).softmax(dim=-1) @ value


def _masked_weights(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return attention_weights(query, key).masked_fill(~mask, 0.0) @ value


def _own_softmax(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(query.size(-1))
    powers = scores.exp() * mask
    return powers / powers.sum(dim=-1, keepdim=True) @ value


check_attention = SelfCheck(
    solution=_attention,
    cases=_attention_cases,
    mistakes=(
        Mistake(
            _unscaled, "The scores are not scaled: divide them by the root of d_k."
        ),
        Mistake(
            _scaled_twice,
            "The scores are too small: divide them by the root of d_k, not by d_k.",
        ),
        Mistake(
            _wrong_axis,
            "The softmax runs over the queries. Each row must sum to 1: use `dim=-1`.",
        ),
        Mistake(
            _inverted,
            "The mask is turned round: True means that a query may look, so fill "
            "where the mask is False.",
        ),
        Mistake(_unmasked, "The mask is not used: some query looks at a hidden key."),
        Mistake(
            _zero_scores,
            "A hidden score of 0 still gets weight, because e to the 0 is 1. "
            "Fill with minus infinity.",
        ),
        Mistake(
            _masked_weights,
            "Weights are hidden after the softmax, so the rows no longer sum to 1. "
            "Hide the scores before it.",
        ),
        Mistake(
            _own_softmax,
            "Your own softmax overflows with large scores. Subtract each row's maximum "
            "first, or call `softmax`.",
        ),
    ),
)
