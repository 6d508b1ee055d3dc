"""Checks for the exercises of chapter 2."""

import math

import torch
from torch import Tensor

from transformer.attention import attention_weights
from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.position_encoding import sinusoids

#: What `nn.LayerNorm` adds to the variance.
EPSILON = 1e-5


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
    scaled = query @ key.T / math.sqrt(query.size(-1))
    return scaled.masked_fill(~mask, float("-inf")).softmax(dim=0) @ value


def _inverted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scaled = query @ key.T / math.sqrt(query.size(-1))
    return scaled.masked_fill(mask, float("-inf")).softmax(dim=-1) @ value


def _unmasked(query: Tensor, key: Tensor, value: Tensor, _mask: Tensor) -> Tensor:
    return attention_weights(query, key) @ value


def _zero_scores(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scaled = query @ key.T / math.sqrt(query.size(-1))
    return scaled.masked_fill(~mask, 0.0).softmax(dim=-1) @ value


def _masked_weights(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return attention_weights(query, key).masked_fill(~mask, 0.0) @ value


def _own_softmax(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scaled = query @ key.T / math.sqrt(query.size(-1))
    powers = scaled.exp() * mask
    return powers / powers.sum(dim=-1, keepdim=True) @ value


def _one_maximum(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scaled = query @ key.T / math.sqrt(query.size(-1))
    powers = (scaled - scaled.max()).exp() * mask
    return powers / powers.sum(dim=-1, keepdim=True) @ value


def _not_divided(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scaled = query @ key.T / math.sqrt(query.size(-1))
    scaled = scaled.masked_fill(~mask, float("-inf"))
    return (scaled - scaled.amax(dim=-1, keepdim=True)).exp() @ value


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
            "`exp` overflows with large scores. Subtract each row's maximum before you "
            "call it: the weights stay the same.",
        ),
        Mistake(
            _one_maximum,
            "One maximum for all rows turns every power of some rows into 0. Each row "
            "needs its own: `amax(dim=-1, keepdim=True)`.",
        ),
        Mistake(
            _not_divided,
            "The weights of a row do not sum to 1 yet: divide its powers by their sum.",
        ),
    ),
)


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _counted(*shape: int) -> Tensor:
    """A tensor whose entries are all different, in the order in which they are stored."""
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


def _split_cases() -> list[tuple]:
    return [
        (_counted(1, 3, 8), 2),
        (_counted(2, 3, 10), 5),
        (_counted(2, 7, 6), 3),
        (_counted(3, 5, 7), 1),
        (_counted(3, 1, 6), 2),
    ]


def _reshaped(x: Tensor, num_heads: int) -> Tensor:
    batch, length, d_model = x.shape
    return x.reshape(batch, num_heads, length, d_model // num_heads)


def _not_transposed(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1))


def _sizes_swapped(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, num_heads)).transpose(1, 2)


def _every_nth_entry(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)


check_split_heads = SelfCheck(
    solution=_split_heads,
    cases=_split_cases,
    mistakes=(
        Mistake(
            _reshaped,
            "The shape is right, but a head gets entries of several positions. Cut "
            "the last dimension in two first, then exchange heads and length.",
        ),
        Mistake(
            _not_transposed,
            "The cut is right. Now bring the heads before the length.",
        ),
        Mistake(
            _sizes_swapped,
            "The last dimension is cut into d_head pieces of num_heads entries; "
            "num_heads pieces are wanted.",
        ),
        Mistake(
            _every_nth_entry,
            "A head gets a slice of entries that stand side by side, not every "
            "num_heads-th entry.",
        ),
    ),
)


def _merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(start_dim=2)


def _merge_cases() -> list[tuple]:
    return [
        (_counted(1, 2, 3, 4),),
        (_counted(2, 5, 3, 2),),
        (_counted(3, 1, 5, 7),),
        (_counted(3, 2, 1, 3),),
    ]


def _merged_by_reshape(x: Tensor) -> Tensor:
    batch, heads, length, d_head = x.shape
    return x.reshape(batch, length, heads * d_head)


def _merged_wrong_pair(x: Tensor) -> Tensor:
    return x.flatten(start_dim=1, end_dim=2)


def _heads_left(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def _heads_added(x: Tensor) -> Tensor:
    return x.sum(dim=1)


def _heads_interleaved(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(start_dim=2)


def _merged_by_view(x: Tensor) -> Tensor:
    batch, heads, length, d_head = x.shape
    return x.transpose(1, 2).view(batch, length, heads * d_head)


check_merge_heads = SelfCheck(
    solution=_merge_heads,
    cases=_merge_cases,
    mistakes=(
        Mistake(
            _merged_by_reshape,
            "The shape is right, but a row mixes several positions. Exchange heads "
            "and length before you join the last two dimensions.",
        ),
        Mistake(
            _merged_wrong_pair,
            "Heads are joined with the length here. Join them with d_head.",
        ),
        Mistake(_heads_left, "Now join the last two dimensions into one."),
        Mistake(_heads_added, "Heads are put side by side, not added up."),
        Mistake(
            _heads_interleaved,
            "The heads take turns in each row. All entries of head 0 come first, "
            "then all of head 1.",
        ),
        Mistake(
            _merged_by_view,
            "`view` cannot join what `transpose` has moved apart in memory. "
            "`flatten` and `reshape` can: they copy.",
        ),
    ),
)


def _layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return scale * centred / (variance + EPSILON).sqrt() + shift


def _layer_norm_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return [
        (torch.tensor([1.0, 2.0, 4.0, 5.0]), torch.ones(4), torch.zeros(4)),
        (3 * drawn(2, 5, 3) + 1, drawn(3), drawn(3)),
        # As many positions as entries: a mean over the wrong one has the right shape.
        (drawn(7, 7), drawn(7), drawn(7)),
        # Variances about as small as epsilon, and 0.
        (0.005 * drawn(2, 5), torch.ones(5), torch.zeros(5)),
        (torch.full((3, 2), 4.0), torch.ones(2), torch.zeros(2)),
    ]


def _unbiased(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True)
    return scale * centred / (variance + EPSILON).sqrt() + shift


def _no_epsilon(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return scale * centred / variance.sqrt() + shift


def _epsilon_outside(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = centred.square().mean(dim=-1, keepdim=True).sqrt()
    return scale * centred / (deviation + EPSILON) + shift


def _no_root(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return scale * centred / (variance + EPSILON) + shift


def _not_centred(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    variance = x.var(dim=-1, correction=0, keepdim=True)
    return scale * x / (variance + EPSILON).sqrt() + shift


def _root_mean_square(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return (
        scale * centred / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() + shift
    )


def _over_everything(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    variance = x.var(correction=0)
    return scale * (x - x.mean()) / (variance + EPSILON).sqrt() + shift


def _over_positions(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    dim = -2 if x.dim() > 1 else -1
    centred = x - x.mean(dim=dim, keepdim=True)
    variance = centred.square().mean(dim=dim, keepdim=True)
    return scale * centred / (variance + EPSILON).sqrt() + shift


def _dimension_lost(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    variance = x.var(dim=-1, correction=0)
    return scale * (x - x.mean(dim=-1)) / (variance + EPSILON).sqrt() + shift


def _neither_scale_nor_shift(x: Tensor, scale: Tensor, _shift: Tensor) -> Tensor:
    return _layer_norm(x, torch.ones_like(scale), torch.zeros_like(scale))


def _shift_scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return scale * (_layer_norm(x, torch.ones_like(scale), shift))


check_layer_norm = SelfCheck(
    solution=_layer_norm,
    cases=_layer_norm_cases,
    mistakes=(
        Mistake(
            _unbiased,
            "The variance is a little too large: `var` divides by one entry less "
            "unless you say `correction=0`. Layer norm divides by all of them.",
        ),
        Mistake(
            _no_epsilon,
            "Epsilon is missing: a vector of equal entries has variance 0, and you "
            "divide by its root.",
        ),
        Mistake(
            _epsilon_outside,
            "Epsilon belongs under the root, added to the variance.",
        ),
        Mistake(_no_root, "Divide by the root of the variance, not by the variance."),
        Mistake(_not_centred, "Subtract the mean from the entries, too."),
        Mistake(
            _root_mean_square,
            "The variance is the mean square of what is left when the mean is "
            "subtracted, not of the entries themselves.",
        ),
        Mistake(
            _over_everything,
            "Mean and variance run over all vectors at once. Each vector needs its "
            "own: `dim=-1`.",
        ),
        Mistake(
            _over_positions,
            "Mean and variance run over the positions. They must run over the entries "
            "of one vector: `dim=-1`.",
        ),
        Mistake(
            _dimension_lost,
            "Mean and variance have lost the last dimension, so they do not line up "
            "with `x`: `keepdim=True` keeps it.",
        ),
        Mistake(
            _neither_scale_nor_shift,
            "The vectors are normalised. Now apply `scale` and `shift`.",
        ),
        Mistake(
            _shift_scaled,
            "The shift is multiplied by the scale: multiply first, then add.",
        ),
    ),
)


def _sinusoids(position: int, d_model: int) -> Tensor:
    return sinusoids(position + 1, d_model)[position]


def _sinusoids_cases() -> list[tuple]:
    return [(3, 4), (0, 6), (1, 2), (50, 10), (7, 16)]


def _angles(position: int, exponents: Tensor) -> Tensor:
    return position / 10_000**exponents


def _taking_turns(sines: Tensor, cosines: Tensor) -> Tensor:
    return torch.stack([sines, cosines], dim=-1).flatten()


def _even(d_model: int) -> Tensor:
    return torch.arange(0, d_model, 2, dtype=torch.float64)


def _sine_and_cosine_swapped(position: int, d_model: int) -> Tensor:
    angles = _angles(position, _even(d_model) / d_model)
    return _taking_turns(angles.cos(), angles.sin())


def _pairs_not_doubled(position: int, d_model: int) -> Tensor:
    angles = _angles(position, _even(d_model) / 2 / d_model)
    return _taking_turns(angles.sin(), angles.cos())


def _exponent_not_divided(position: int, d_model: int) -> Tensor:
    angles = _angles(position, _even(d_model))
    return _taking_turns(angles.sin(), angles.cos())


def _own_angle_each(position: int, d_model: int) -> Tensor:
    angles = _angles(position, torch.arange(d_model, dtype=torch.float64) / d_model)
    return _taking_turns(angles[0::2].sin(), angles[1::2].cos())


def _in_halves(position: int, d_model: int) -> Tensor:
    angles = _angles(position, _even(d_model) / d_model)
    return torch.cat([angles.sin(), angles.cos()])


def _multiplied(position: int, d_model: int) -> Tensor:
    angles = _angles(position, -_even(d_model) / d_model)
    return _taking_turns(angles.sin(), angles.cos())


def _from_one(position: int, d_model: int) -> Tensor:
    return _sinusoids(position + 1, d_model)


def _whole_table(position: int, d_model: int) -> Tensor:
    return sinusoids(position + 1, d_model)


check_sinusoids = SelfCheck(
    solution=_sinusoids,
    cases=_sinusoids_cases,
    mistakes=(
        Mistake(
            _sine_and_cosine_swapped,
            "Sine and cosine have changed places: entry 0 is a sine, entry 1 a cosine.",
        ),
        Mistake(
            _pairs_not_doubled,
            "The exponent is too small: pair number i has 2i in it, not i.",
        ),
        Mistake(
            _exponent_not_divided,
            "The exponent is too large: divide 2i by d_model.",
        ),
        Mistake(
            _own_angle_each,
            "The sine and the cosine of a pair must have the same angle: in entry "
            "2i + 1, too, the exponent has 2i in it.",
        ),
        Mistake(
            _in_halves,
            "All sines come first here. Sine and cosine take turns: entries 0 and 1 "
            "are the first pair.",
        ),
        Mistake(
            _multiplied,
            "The position is multiplied by the power of 10,000: divide by it.",
        ),
        Mistake(_from_one, "Positions count from 0: at position 0 all sines are 0."),
        Mistake(
            _whole_table,
            "These are the signatures of all positions up to this one. Return the one "
            "row that is asked for.",
        ),
    ),
)
