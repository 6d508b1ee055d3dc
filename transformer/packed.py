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
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.add_norm import AddNorm
from transformer.attention import MultiHeadAttention, scaled_dot_product_attention
from transformer.decoder import Decoder, DecoderLayer
from transformer.embedding import embed
from transformer.feed_forward import FeedForward
from transformer.kv_cache import DecoderCache, LayerCache
from transformer.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The number of rows for which oneDNN arranges its blocks; it multiplies any number.
TYPICAL_ROWS = 32

#: The classes of all modules of a decoder's layers; what others compute would be lost.
PACKABLE = (
    nn.ModuleList,
    DecoderLayer,
    MultiHeadAttention,
    FeedForward,
    AddNorm,
    nn.Linear,
    nn.LayerNorm,
    nn.Dropout,
)


class PackedTransformer(nn.Module):
    """A `Transformer` that decodes faster, with the same results up to rounding.

    `greedy_decode`, `generate` and `beam_search` are called as on the model itself. When
    decoding begins, every weight is compared with its packed copy, number by number, and
    packed anew where they differ. So the model may be trained further, by any optimizer,
    or changed in any other way. No module of the decoder's layers is called, nor the output
    projection. So forward hooks on these are refused; to observe or to edit, decode with
    `model`.
    """

    def __init__(self, model: Transformer) -> None:
        """Wrap `model`, which must be built from this package's own layers.

        Raises:
            TypeError: if a module inside the decoder's layers is of another class: what
                it computes differently would be lost.
        """
        super().__init__()
        _check_classes(model)
        self.model = model
        self._packed: dict[tuple[nn.Linear, ...], PackedLinear] = {}
        self.config = model.config
        self.max_len = model.max_len
        self.pad_token_id = model.pad_token_id

    greedy_decode = Transformer.greedy_decode
    generate = Transformer.generate
    beam_search = Transformer.beam_search

    @torch.no_grad()
    def start_cache(self, src: Tensor, capacity: int) -> PackedCache:
        """As `Transformer.start_cache`; packs what has changed of the decoder's weights.

        Raises:
            TypeError: if a module of the decoder's layers has been replaced by one of
                another class.
            ValueError: if a module that no step calls has a forward hook.
        """
        _check_classes(self.model)
        self._refuse_hooks()
        cache = self.model.start_cache(src, capacity)
        layers, output_projection = self._pack()
        return PackedCache(cache.layers, cache.memory_mask, layers, output_projection)

    @torch.no_grad()
    def next_logits(self, tokens: Tensor, cache: PackedCache) -> Tensor:
        """As `Transformer.next_logits`: ids `[batch]` → logits `[batch, vocab]`."""
        model = self.model
        x = embed(
            tokens[:, None], model.tgt_embedding, model.position_encoding, cache.length
        )[:, 0]
        for layer, past in zip(cache.packed_layers, cache.layers, strict=True):
            x = layer.step(x, past, cache.memory_mask)
        return cache.output_projection(model.decoder.norm(x))

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

    def _pack(self) -> tuple[list[PackedLayer], Callable[[Tensor], Tensor]]:
        """The decoder's layers and the output projection, if it is a plain one, packed."""
        packed: dict[tuple[nn.Linear, ...], PackedLinear] = {}

        def pack(*linears: nn.Linear) -> PackedLinear:
            product = self._packed.get(linears)
            if product is None or not product.holds(linears):
                product = PackedLinear(*linears)
            packed[linears] = product
            return product

        layers = [PackedLayer(layer, pack) for layer in self.model.decoder.layers]
        output_projection = self.model.output_projection
        if type(output_projection) is nn.Linear:
            output_projection = pack(output_projection)
        self._packed = packed
        return layers, output_projection

    def __getstate__(self) -> dict:
        """What a copy or a file needs: the packed weights are made again."""
        return super().__getstate__() | {"_packed": {}}


@dataclass
class PackedCache(DecoderCache):
    """What the decoder remembers, and what a step multiplies with."""

    packed_layers: list[PackedLayer]
    output_projection: Callable[[Tensor], Tensor]


class PackedLayer:
    """One decoder layer for one new position: vectors `[batch, d_model]` in and out."""

    def __init__(self, layer: DecoderLayer, pack: Callable[..., PackedLinear]) -> None:
        """Gather the weights; those of query, key and value are stacked to one matrix."""
        own, cross = layer.self_attention, layer.cross_attention
        self.heads = (own.num_heads, 1, own.d_head)
        self.query_key_value = pack(
            own.query_projection, own.key_projection, own.value_projection
        )
        self.self_output = pack(own.output_projection)
        self.cross_query = pack(cross.query_projection)
        self.cross_output = pack(cross.output_projection)
        self.expand = pack(layer.feed_forward.expand)
        self.contract = pack(layer.feed_forward.contract)
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
        self.bias = _stacked_biases(linears)
        self.has_blocks = (
            torch.backends.mkldnn.is_available()
            and self.weight.device.type == "cpu"
            and self.weight.dtype == torch.float32
        )

    def holds(self, linears: Sequence[nn.Linear]) -> bool:
        """Whether the numbers of `linears` are still those that have been packed."""
        weights = [linear.weight for linear in linears]
        sizes = [len(weight) for weight in weights]
        return (
            sum(sizes) == len(self.weight)
            and all(map(_equal, weights, self.weight.split(sizes)))
            and _equal(self.bias, _stacked_biases(linears))
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
        # Autocast hands on vectors of 16 bits, which blocks of 32 cannot multiply.
        if self.has_blocks and not torch.is_autocast_enabled("cpu"):
            return torch.ops.mkldnn._linear_pointwise(
                x, self.blocks, self.bias, "none", [], ""
            )
        return F.linear(x, self.weight, self.bias)


def _check_classes(model: Transformer) -> None:
    if type(model) is not Transformer or type(model.decoder) is not Decoder:
        raise TypeError(
            "only a Transformer with its own Decoder can be packed, got "
            f"{type(model).__name__}"
        )
    for name, module in model.decoder.layers.named_modules():
        if type(module) not in PACKABLE:
            raise TypeError(
                f"decoder.layers.{name} is a {type(module).__name__}, which cannot be "
                "packed: decode with the model itself"
            )


def _stacked_biases(linears: Sequence[nn.Linear]) -> Tensor | None:
    """The biases, zeros for those that are missing; None if all are."""
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat(
        [
            linear.weight.new_zeros(linear.out_features)
            if linear.bias is None
            else linear.bias
            for linear in linears
        ]
    )


def _equal(x: Tensor | None, y: Tensor | None) -> bool:
    """Whether both hold the same numbers, of the same type, on the same device."""
    if x is None or y is None:
        return x is y
    return x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)


def _normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
