"""The parts of today in the place of those of 2017, for any `Transformer` that is built.

Companion C derives each and checks it by a property. The package knows nothing of them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer import FeedForward, MultiHeadAttention, Transformer
from transformer.attention import attention_weights
from transformer.kv_cache import KeyValueCache
from transformer.position_encoding import PositionalEncoding, sinusoids


def exchange(
    model: nn.Module, kind: type, make: Callable[..., nn.Module], where: str = ""
) -> int:
    """Put `make(module)` in the place of each `kind` whose name contains `where`.

    Returns:
        How many there were. Subclasses of `kind` stay.
    """
    names = [
        name
        for name, module in model.named_modules()
        if type(module) is kind and where in name
    ]
    for name in names:
        model.set_submodule(name, make(model.get_submodule(name)))
    return len(names)


class RMSNorm(nn.Module):
    """A layer norm without mean and shift: `x / rms(x) * weight`."""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        """Begin with a scale of ones."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`[..., d_model]` → `[..., d_model]`."""
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return x / (mean_square + self.eps).sqrt() * self.weight


class Activated(nn.Module):
    """A feed-forward network with another activation, and the weights it has."""

    def __init__(self, feed_forward: FeedForward, activation: Callable) -> None:
        """Take over both maps of `feed_forward`."""
        super().__init__()
        self.expand, self.contract = feed_forward.expand, feed_forward.contract
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """`[..., d_model]` → `[..., d_model]`."""
        return self.contract(self.activation(self.expand(x)))


class SwiGLU(nn.Module):
    """A gated feed-forward network: `(silu(x W_g) * x W_1) W_2`, without biases."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        """Build three maps; two thirds of the usual `d_ff` keep the number of weights."""
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.expand = nn.Linear(d_model, d_ff, bias=False)
        self.contract = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., d_model]` → `[..., d_model]`."""
        return self.contract(F.silu(self.gate(x)) * self.expand(x))


class LearnedPositions(nn.Module):
    """A table of parameters in the place of the sinusoids."""

    def __init__(self, table: Tensor) -> None:
        """Begin as a copy of `table`, `[max_len, d_model]`."""
        super().__init__()
        self.table = nn.Parameter(table.clone())

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Add the rows from `start` on to `x`, `[batch, length, d_model]`."""
        return x + self.table[start : start + x.size(1)]


class NoPositions(nn.Module):
    """In the place of positions that are added: adds none."""

    def forward(self, x: Tensor, _start: int = 0) -> Tensor:
        """`x` as it is."""
        return x


def turn(x: Tensor, start: int = 0) -> Tensor:
    """Turn the hands of `x [..., length, width]` on to positions from `start`."""
    length, width = x.shape[-2:]
    clocks = sinusoids(start + length, width, start=start, dtype=x.dtype)
    sine, cosine = clocks[:, 0::2], clocks[:, 1::2]
    right, up = x[..., 0::2], x[..., 1::2]
    turned = [right * cosine + up * sine, up * cosine - right * sine]
    return torch.stack(turned, dim=-1).flatten(-2)


class RotaryAttention(MultiHeadAttention):
    """Self-attention whose queries and keys are turned by their positions (RoPE)."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As of `MultiHeadAttention`; a cache holds keys that are turned already."""
        start = 0 if cache is None else cache.length
        queries = turn(self.split_heads(self.query_projection(query)), start)
        keys, values = self.project_keys_values(key, value)
        keys = turn(keys, start)
        if cache is not None:
            keys, values = cache.append(keys, values)
        output = F.scaled_dot_product_attention(queries, keys, values, mask)
        looked = need_weights or self._forward_hooks
        weights = attention_weights(queries, keys, mask) if looked else None
        return self.output_projection(self.merge_heads(output)), weights


def with_rms_norm(model: Transformer) -> int:
    """Exchange every layer norm."""
    return exchange(model, nn.LayerNorm, lambda old: RMSNorm(old.normalized_shape[0]))


def with_gates(model: Transformer) -> int:
    """Exchange every feed-forward network for a gated one with as many weights."""
    return exchange(
        model,
        FeedForward,
        lambda old: SwiGLU(old.d_model, round(2 * old.expand.out_features / 3)),
    )


def with_gelu(model: Transformer) -> int:
    """Exchange ReLU for GELU."""
    return exchange(model, FeedForward, lambda old: Activated(old, F.gelu))


def with_learned_positions(model: Transformer) -> int:
    """Let the table of positions be trained."""
    return exchange(model, PositionalEncoding, lambda old: LearnedPositions(old.table))


def with_rotary_positions(model: Transformer) -> int:
    """Add no positions; turn queries and keys of every self-attention."""
    exchange(model, PositionalEncoding, lambda _: NoPositions())
    return exchange(
        model,
        MultiHeadAttention,
        lambda old: RotaryAttention(old.d_model, old.num_heads),
        where="self_attention",
    )


def with_tied_embedding(model: Transformer) -> int:
    """Let the output projection use the target's embedding."""
    model.output_projection.weight = model.tgt_embedding.weight
    return 1
