"""Decoding with fewer calls: the same weights, packed for steps of one token.

One token at a time leaves little arithmetic: a step takes as long as it takes to read all
weights and to call all modules. So the weights are kept in the order in which a product
with few rows reads them fastest, and a decoder layer is one straight function: queries,
keys and values come from one matrix product, and no module is called. Clarity is the
price; `DecoderLayer` says the same for readers, and the tests hold both equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.attention import scaled_dot_product_attention
from transformer.decoder import Decoder, DecoderLayer
from transformer.embedding import embed
from transformer.kv_cache import DecoderCache, LayerCache
from transformer.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable

#: The number of rows for which oneDNN arranges its blocks; it multiplies any number.
TYPICAL_ROWS = 32


class PackedTransformer(nn.Module):
    """A `Transformer` that decodes faster, with the same results up to rounding.

    `greedy_decode`, `generate` and `beam_search` are called as on the model itself. When
    decoding begins and the weights have changed since the last time, they are packed anew,
    so training `model` further is safe. (Only what is written through `parameter.data`
    escapes PyTorch's own count of changes, and this one.) No module of the decoder's layers
    is called, nor the output projection. So forward hooks on these are refused; to observe
    or to edit, decode with `model`.
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
        self._packed: tuple[list, Packing] | None = None
        self.config = model.config
        self.max_len = model.max_len
        self.pad_token_id = model.pad_token_id

    greedy_decode = Transformer.greedy_decode
    generate = Transformer.generate
    beam_search = Transformer.beam_search

    @torch.no_grad()
    def start_cache(self, src: Tensor, capacity: int) -> PackedCache:
        """As `Transformer.start_cache`; packs the decoder's weights.

        Raises:
            ValueError: if a module that no step calls has a forward hook.
        """
        self._refuse_hooks()
        cache = self.model.start_cache(src, capacity)
        return PackedCache(cache.layers, cache.memory_mask, self._pack())

    @torch.no_grad()
    def next_logits(self, tokens: Tensor, cache: PackedCache) -> Tensor:
        """As `Transformer.next_logits`: ids `[batch]` → logits `[batch, vocab]`."""
        model = self.model
        x = embed(
            tokens[:, None], model.tgt_embedding, model.position_encoding, cache.length
        )[:, 0]
        layers, output_projection = cache.packing
        for layer, past in zip(layers, cache.layers, strict=True):
            x = layer.step(x, past, cache.memory_mask)
        return output_projection(model.decoder.norm(x))

    def _refuse_hooks(self) -> None:
        """A hook that is never called would leave whoever set it in the dark."""
        skipped = dict(self.model.decoder.layers.named_modules(prefix="decoder.layers"))
        if type(self.model.output_projection) is nn.Linear:
            skipped["output_projection"] = self.model.output_projection
        for name, module in skipped.items():
            if module._forward_hooks or module._forward_pre_hooks:
                raise ValueError(
                    f"{name} has a forward hook, which packed decoding would never call: "
                    "decode with the model itself"
                )

    def _pack(self) -> Packing:
        """The packed weights, made anew if a weight has changed since the last call."""
        decoder, output = self.model.decoder, self.model.output_projection
        weights = [*decoder.layers.parameters(), *output.parameters()]
        if any(weight.is_inference() for weight in weights):
            return Packing.of(decoder, output)  # PyTorch does not count their changes.
        state = [(weight.data_ptr(), weight._version) for weight in weights]
        if self._packed is None or self._packed[0] != state:
            self._packed = state, Packing.of(decoder, output)
        return self._packed[1]

    def __getstate__(self) -> dict:
        """What a copy or a file needs: the packed weights are made again."""
        return super().__getstate__() | {"_packed": None}


class Packing(NamedTuple):
    """What a step multiplies with."""

    layers: list[PackedLayer]
    output_projection: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, decoder: Decoder, output_projection: nn.Module) -> Packing:
        """Pack every layer, and the projection to the vocabulary if it is a plain one."""
        if type(output_projection) is nn.Linear:
            output_projection = PackedLinear(output_projection)
        return cls([PackedLayer(layer) for layer in decoder.layers], output_projection)


@dataclass
class PackedCache(DecoderCache):
    """What the decoder remembers, and its weights, packed."""

    packing: Packing


class PackedLayer:
    """One decoder layer for one new position: vectors `[batch, d_model]` in and out."""

    def __init__(self, layer: DecoderLayer) -> None:
        """Gather the weights; those of query, key and value are stacked to one matrix."""
        own, cross = layer.self_attention, layer.cross_attention
        self.heads = (own.num_heads, 1, own.d_head)
        self.query_key_value = PackedLinear(
            own.query_projection, own.key_projection, own.value_projection
        )
        self.self_output = PackedLinear(own.output_projection)
        self.cross_query = PackedLinear(cross.query_projection)
        self.cross_output = PackedLinear(cross.output_projection)
        self.expand = PackedLinear(layer.feed_forward.expand)
        self.contract = PackedLinear(layer.feed_forward.contract)
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
        stacked = self.query_key_value(x)
        query, key, value = stacked.unflatten(-1, (3, *self.heads)).unbind(1)
        keys, values = past.self_attention.append(key, value)
        y = scaled_dot_product_attention(query, keys, values)
        return self.self_output(y.flatten(1))

    def _attend_to_memory(self, x: Tensor, past: LayerCache, mask: Tensor) -> Tensor:
        query = self.cross_query(x).unflatten(-1, self.heads)
        memory = past.cross_attention
        y = scaled_dot_product_attention(query, memory.keys, memory.values, mask)
        return self.cross_output(y.flatten(1))

    def _feed_forward(self, x: Tensor, _past: LayerCache, _mask: Tensor) -> Tensor:
        return self.contract(self.expand(x).relu())


class PackedLinear:
    """One linear map, or several of the same input stacked to one, for few rows.

    A product with one row reads the weights fastest column by column; with several rows,
    in the blocks of oneDNN, the library for matrix products that comes with PyTorch.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        """Stack the maps: the outputs of all of them, in this order."""
        self.weight = torch.cat([linear.weight for linear in linears])
        self.bias = torch.cat([linear.bias for linear in linears])
        self.has_blocks = (
            torch.backends.mkldnn.is_available()
            and self.weight.device.type == "cpu"
            and self.weight.dtype == torch.float32
        )

    @cached_property
    def columns(self) -> Tensor:
        """The weights, column by column, as `[in, out]`."""
        return self.weight.t().contiguous()

    @cached_property
    def blocks(self) -> Tensor:
        """The weights in oneDNN's own order."""
        return torch.ops.mkldnn._reorder_linear_weight(self.weight, TYPICAL_ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        """Map `[rows, in]` to `[rows, out]`."""
        if x.size(0) == 1:
            return F.linear(x, self.columns.t(), self.bias)
        if self.has_blocks:
            return torch.ops.mkldnn._linear_pointwise(
                x, self.blocks, self.bias, "none", [], ""
            )
        return F.linear(x, self.weight, self.bias)


def _normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
