"""Scaled dot-product attention, one head and many (paper, section 3.2).

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                      (equation 1)

Shapes are written `[batch, heads, query, key]`: *query* counts the positions that look,
*key* the positions that are looked at.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.checks import (
    check_heads,
    check_mask,
    check_positive_int,
    check_vectors,
)
from transformer.kv_cache import KeyValueCache


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much each query attends to each key: `softmax(Q K^T / sqrt(d_k))`.

    Args:
        query: `[..., query, d_k]`.
        key: `[..., key, d_k]`.
        mask: boolean, broadcastable to `[..., query, key]`; True = may attend.

    Returns:
        `[..., query, key]`. Each row sums to 1. A query that may attend to nothing gets
        zeros, as in the fused kernel.
    """
    scaled = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        return scaled.softmax(dim=-1)
    weights = scaled.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    # A row of -inf alone has become 0/0; what may not be attended to gets zero there too.
    return weights.masked_fill(~mask, 0.0)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """`attention_weights(query, key, mask) @ value`, computed by PyTorch's fused kernel.

    The kernel never stores the `[..., query, key]` weights, which saves time and
    memory. A query that may attend to nothing gets zeros.

    Args:
        query: `[..., query, d_k]`.
        key: `[..., key, d_k]`.
        value: `[..., key, d_v]`.
        mask: boolean, broadcastable to `[..., query, key]`; True = may attend.

    Returns:
        `[..., query, d_v]`.
    """
    if mask is not None:
        mask = torch.atleast_2d(mask)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class SelfAttention(nn.Module):
    """One attention head whose queries, keys and values come from the same sequence.

    A forward hook on the module receives `(output, weights)`.
    """

    def __init__(self, d_model: int, d_head: int | None = None) -> None:
        """Build the three projections `d_model → d_head` (default: `d_model`)."""
        super().__init__()
        d_model = check_positive_int("d_model", d_model)
        d_head = d_model if d_head is None else check_positive_int("d_head", d_head)
        self.d_model = d_model
        self.query_projection = nn.Linear(d_model, d_head)
        self.key_projection = nn.Linear(d_model, d_head)
        self.value_projection = nn.Linear(d_model, d_head)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Let every position of `x` gather what it needs from every other.

        Args:
            x: `[batch, length, d_model]`.
            mask: boolean, broadcastable to `[batch, query, key]`; True = may attend.
            need_weights: also return the attention weights.

        Returns:
            `(output, weights)`: `[batch, length, d_head]` and `[batch, query, key]`.
            The weights are None unless asked for or observed by a forward hook.
        """
        check_vectors("x", x, self.d_model)
        check_mask(mask, (x.size(0), x.size(1), x.size(1)))
        query, key = self.query_projection(x), self.key_projection(x)
        output = scaled_dot_product_attention(
            query, key, self.value_projection(x), mask
        )
        observed = need_weights or self._forward_hooks
        weights = attention_weights(query, key, mask) if observed else None
        return output, weights


class MultiHeadAttention(nn.Module):
    """Several heads side by side, each on a slice of Q, K and V (paper, section 3.2.2).

        MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O

    The output is computed once, by the fused kernel. The weights are computed only for
    those who look: a caller with `need_weights=True`, or a forward hook on this module,
    which receives `(output, weights)`. Looking never changes the output.

    There is no dropout on the weights. The paper applies it to each sub-layer's output and
    to the sums of embeddings and positions (section 5.4). So the weights that are shown are
    always the weights that were used.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        """Build the projections W^Q, W^K, W^V and W^O, `d_model → d_model` each.

        Raises:
            ValueError: if `num_heads` does not divide `d_model`.
        """
        super().__init__()
        d_model, num_heads = check_heads(d_model, num_heads)
        self.d_model = d_model
        self.num_heads = num_heads
        self.d_head = d_model // num_heads
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_projection = nn.Linear(d_model, d_model)
        self.value_projection = nn.Linear(d_model, d_model)
        self.output_projection = nn.Linear(d_model, d_model)

    def split_heads(self, x: Tensor) -> Tensor:
        """`[batch, length, d_model]` → `[batch, heads, length, d_head]`."""
        return x.unflatten(-1, (self.num_heads, self.d_head)).transpose(1, 2)

    def merge_heads(self, x: Tensor) -> Tensor:
        """`[batch, heads, length, d_head]` → `[batch, length, d_model]`."""
        return x.transpose(1, 2).flatten(start_dim=2)

    def project_keys_values(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every head, `[batch, heads, key, d_head]` each."""
        keys = self.split_heads(self.key_projection(key))
        values = self.split_heads(self.value_projection(value))
        return keys, values

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Let every query position gather what it needs from the key positions.

        Self-attention passes the same tensor three times; cross-attention passes the
        encoder's memory as `key` and `value`.

        Args:
            query: `[batch, query, d_model]`.
            key: `[batch, key, d_model]`. None: attend to what `cache` holds.
            value: `[batch, key, d_model]`.
            mask: boolean, broadcastable to `[batch, heads, query, key]`; True = may
                attend.
            cache: keys and values of earlier positions; those of `key` are appended to
                it. In the shapes of mask and weights, `key` then counts all of them.
            need_weights: also return the attention weights.

        Returns:
            `(output, weights)`: `[batch, query, d_model]` and `[batch, heads, query,
            key]`. The weights are None unless asked for or observed by a forward hook.
        """
        check_vectors("query", query, self.d_model)
        queries = self.split_heads(self.query_projection(query))
        keys, values = self._keys_values(key, value, cache)
        if keys.size(0) != query.size(0):
            raise ValueError(
                f"query and key must have the same batch size, "
                f"got {query.size(0)} and {keys.size(0)}"
            )
        check_mask(mask, (query.size(0), self.num_heads, query.size(1), keys.size(2)))
        output = scaled_dot_product_attention(queries, keys, values, mask)
        observed = need_weights or self._forward_hooks
        weights = attention_weights(queries, keys, mask) if observed else None
        return self.output_projection(self.merge_heads(output)), weights

    def _keys_values(
        self, key: Tensor | None, value: Tensor | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, Tensor]:
        if key is None or value is None:
            if key is not value or cache is None:
                raise ValueError(
                    "key and value must both be given, or neither and a cache"
                )
            return cache.keys, cache.values
        check_vectors("key", key, self.d_model)
        check_vectors("value", value, self.d_model)
        if key.shape != value.shape:
            raise ValueError(
                f"key and value must have the same shape, "
                f"got {list(key.shape)} and {list(value.shape)}"
            )
        keys, values = self.project_keys_values(key, value)
        return (keys, values) if cache is None else cache.append(keys, values)
