"""Decoding with fewer calls: the same weights, packed for steps of one token.

One token at a time leaves the arithmetic so small that calling modules takes about as
long. Here a decoder layer is one straight function: queries, keys and values come from
one matrix product, and no module is called. Clarity is the price; `DecoderLayer` says the
same for readers, and the tests hold both equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.attention import scaled_dot_product_attention
from transformer.decoder import Decoder, DecoderLayer
from transformer.embedding import embed
from transformer.kv_cache import DecoderCache, LayerCache
from transformer.transformer import Transformer


class PackedTransformer(nn.Module):
    """A `Transformer` that decodes faster, with the same results up to rounding.

    `greedy_decode`, `generate` and `beam_search` are called as on the model itself. The
    weights are packed anew whenever decoding begins, so training `model` further is safe.
    Forward hooks on the decoder's layers see nothing here; to observe, decode with
    `model`.
    """

    def __init__(self, model: Transformer) -> None:
        """Wrap `model`, which must be built from this package's own layers.

        Raises:
            TypeError: if a module inside the decoder's layers is of another class: what
                it computes differently would be lost.
        """
        super().__init__()
        if type(model) is not Transformer or type(model.decoder) is not Decoder:
            raise TypeError(
                "only a Transformer with its own Decoder can be packed, got "
                f"{type(model).__name__}"
            )
        # Nobody's random numbers should pay for a look at the classes.
        with torch.random.fork_rng(devices=[]):
            own = [type(module) for module in DecoderLayer(1, 1, 1).modules()]
        for name, module in model.decoder.layers.named_modules():
            if type(module) not in (nn.ModuleList, *own):
                raise TypeError(
                    f"decoder.layers.{name} is a {type(module).__name__}, which cannot be "
                    "packed: decode with the model itself"
                )
        self.model = model
        self.config = model.config
        self.max_len = model.max_len
        self.pad_token_id = model.pad_token_id

    greedy_decode = Transformer.greedy_decode
    generate = Transformer.generate
    beam_search = Transformer.beam_search

    def start_cache(self, src: Tensor, capacity: int) -> PackedCache:
        """As `Transformer.start_cache`; packs the decoder's weights."""
        cache = self.model.start_cache(src, capacity)
        packed = [PackedLayer(layer) for layer in self.model.decoder.layers]
        return PackedCache(cache.layers, cache.memory_mask, packed)

    def next_logits(self, tokens: Tensor, cache: PackedCache) -> Tensor:
        """As `Transformer.next_logits`: ids `[batch]` → logits `[batch, vocab]`."""
        model = self.model
        x = embed(
            tokens[:, None], model.tgt_embedding, model.position_encoding, cache.length
        )[:, 0]
        for layer, past in zip(cache.packed, cache.layers, strict=True):
            x = layer.step(x, past, cache.memory_mask)
        return model.output_projection(model.decoder.norm(x))


@dataclass
class PackedCache(DecoderCache):
    """What the decoder remembers, and its weights, packed."""

    packed: list[PackedLayer]


class PackedLayer:
    """One decoder layer for one new position: vectors `[batch, d_model]` in and out."""

    def __init__(self, layer: DecoderLayer) -> None:
        """Gather the weights; those of query, key and value are stacked to one matrix."""
        own, cross = layer.self_attention, layer.cross_attention
        self.heads = (own.num_heads, 1, own.d_head)
        self.query_key_value = _stack(
            own.query_projection, own.key_projection, own.value_projection
        )
        self.self_output = _stack(own.output_projection)
        self.cross_query = _stack(cross.query_projection)
        self.cross_output = _stack(cross.output_projection)
        self.expand = _stack(layer.feed_forward.expand)
        self.contract = _stack(layer.feed_forward.contract)
        self.norm_first = layer.self_attention_add_norm.norm_first
        self.sublayers = [
            (self._attend_to_past, layer.self_attention_add_norm.norm),
            (self._attend_to_memory, layer.cross_attention_add_norm.norm),
            (self._feed_forward, layer.feed_forward_add_norm.norm),
        ]

    def step(self, x: Tensor, past: LayerCache, memory_mask: Tensor | None) -> Tensor:
        """`DecoderLayer.forward` for the newest position, dropout off."""
        for sublayer, norm in self.sublayers:
            y = _normalise(x, norm) if self.norm_first else x
            x = x + sublayer(y, past, memory_mask)
            x = x if self.norm_first else _normalise(x, norm)
        return x

    def _attend_to_past(self, x: Tensor, past: LayerCache, _mask: Tensor) -> Tensor:
        stacked = F.linear(x, *self.query_key_value)
        query, key, value = stacked.unflatten(-1, (3, *self.heads)).unbind(1)
        keys, values = past.self_attention.append(key, value)
        y = scaled_dot_product_attention(query, keys, values)
        return F.linear(y.flatten(1), *self.self_output)

    def _attend_to_memory(self, x: Tensor, past: LayerCache, mask: Tensor) -> Tensor:
        query = F.linear(x, *self.cross_query).unflatten(-1, self.heads)
        memory = past.cross_attention
        y = scaled_dot_product_attention(query, memory.keys, memory.values, mask)
        return F.linear(y.flatten(1), *self.cross_output)

    def _feed_forward(self, x: Tensor, _past: LayerCache, _mask: Tensor) -> Tensor:
        return F.linear(F.linear(x, *self.expand).relu(), *self.contract)


def _stack(*linears: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of one linear map that gives the outputs of all, in this order."""
    if len(linears) == 1:
        return linears[0].weight, linears[0].bias
    return (
        torch.cat([linear.weight for linear in linears]),
        torch.cat([linear.bias for linear in linears]),
    )


def _normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
