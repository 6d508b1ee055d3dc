"""The same model with PyTorch's own `torch.nn.Transformer` inside, and back.

`nn.Transformer` holds the two stacks of layers only. `TorchTransformer` adds what is
missing between token ids and logits, so that both models are called alike and can be
compared number by number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.checks import (
    check_class,
    check_layer_norm_eps,
    check_same_batch,
    check_same_classes,
    check_token_id,
    check_tokens,
)
from transformer.embedding import embed, make_embedding
from transformer.masks import causal_mask
from transformer.position_encoding import PositionalEncoding
from transformer.tokens import PAD
from transformer.transformer import Transformer, check_own_parts

# Our names of a layer's parts, and torch's. The encoder has no second attention, so there
# the norm after the feed-forward network is number 2 already.
_TORCH_NAMES = {
    "self_attention_add_norm.norm": "norm1",
    "cross_attention_add_norm.norm": "norm2",
    "feed_forward_add_norm.norm": "norm3",
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
    "query_projection.": "in_proj_",
    "key_projection.": "in_proj_",
    "value_projection.": "in_proj_",
    "output_projection": "out_proj",
    "feed_forward.expand": "linear1",
    "feed_forward.contract": "linear2",
}


class TorchTransformer(nn.Module):
    """Token ids to logits like `Transformer`, through PyTorch's `nn.Transformer`.

    It is called like `Transformer`, and the parts around the stacks bear the same names.
    """

    def __init__(
        self,
        stacks: nn.Transformer,
        src_embedding: nn.Embedding,
        tgt_embedding: nn.Embedding,
        output_projection: nn.Linear,
        max_len: int = 5000,
        pad_token_id: int = PAD,
    ) -> None:
        """Put embeddings and output projection around `stacks`.

        Args:
            stacks: built with `batch_first=True`.
            src_embedding: `src_vocab_size` vectors of length `d_model`.
            tgt_embedding: `tgt_vocab_size` vectors of length `d_model`.
            output_projection: `d_model → tgt_vocab_size`.
            max_len: longest source or target, in tokens.
            pad_token_id: the id that fills short rows.

        Raises:
            TypeError: if one of the parts is of another class than PyTorch's own.
            ValueError: if `stacks` expects the batch second, or the sizes do not fit.
        """
        super().__init__()
        layers = _layers(stacks)
        attentions = [
            x for x in stacks.modules() if isinstance(x, nn.MultiheadAttention)
        ]
        if not all(part.batch_first for part in (stacks, *attentions)):
            raise ValueError(
                "stacks must be built with batch_first=True (the weights are the same)"
            )
        check_class("src_embedding", src_embedding, nn.Embedding)
        check_class("tgt_embedding", tgt_embedding, nn.Embedding)
        check_class("output_projection", output_projection, nn.Linear)
        widths = {
            "src_embedding": src_embedding.embedding_dim,
            "tgt_embedding": tgt_embedding.embedding_dim,
            "output_projection": output_projection.in_features,
        }
        for name, width in widths.items():
            if width != stacks.d_model:
                raise ValueError(
                    f"{name} has width {width}, the stacks have d_model {stacks.d_model}"
                )
        if output_projection.out_features != tgt_embedding.num_embeddings:
            raise ValueError(
                f"output_projection gives {output_projection.out_features} logits, "
                f"tgt_embedding holds {tgt_embedding.num_embeddings} tokens"
            )
        for name, embedding in (
            ("src_embedding", src_embedding),
            ("tgt_embedding", tgt_embedding),
        ):
            check_token_id("pad_token_id", pad_token_id, embedding.num_embeddings)
            if embedding.padding_idx not in (None, pad_token_id):
                raise ValueError(
                    f"{name} has padding_idx {embedding.padding_idx}, "
                    f"pad_token_id is {pad_token_id}"
                )
        self.max_len = max_len
        self.pad_token_id = pad_token_id
        self.src_embedding = src_embedding
        self.tgt_embedding = tgt_embedding
        self.position_encoding = PositionalEncoding(
            stacks.d_model, max_len, layers[0].dropout1.p
        )
        self.stacks = stacks
        self.output_projection = output_projection

    def forward(self, src: Tensor, tgt_in: Tensor) -> Tensor:
        """Ids `[batch, src_len]` and `[batch, tgt_len]` → logits, as in `Transformer`."""
        check_tokens("src", src, self.src_embedding.num_embeddings, self.max_len)
        check_tokens("tgt_in", tgt_in, self.tgt_embedding.num_embeddings, self.max_len)
        check_same_batch("src", src, "tgt_in", tgt_in)
        # torch's boolean masks say the opposite of ours: True = may NOT attend.
        src_is_pad = src == self.pad_token_id
        x = self.stacks(
            embed(src, self.src_embedding, self.position_encoding),
            embed(tgt_in, self.tgt_embedding, self.position_encoding),
            tgt_mask=~causal_mask(tgt_in.size(1), tgt_in.device),
            src_key_padding_mask=src_is_pad,
            tgt_key_padding_mask=tgt_in == self.pad_token_id,
            memory_key_padding_mask=src_is_pad,
        )
        return self.output_projection(x)


def to_torch(model: Transformer) -> TorchTransformer:
    """A copy of `model` whose layers are PyTorch's own, with the same weights.

    Logits and gradients agree up to rounding as long as nothing is dropped. With dropout
    on, PyTorch's layers also drop attention weights and activations inside the
    feed-forward network; those of this package follow the paper.

    Weights that two parts share become two copies, as in a checkpoint.

    Raises:
        TypeError, ValueError: if a part of `model` is not as its configuration says: what
            it computes differently would be lost.
    """
    check_own_parts(model)
    config = model.config
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and module.p != config.dropout:
            raise ValueError(
                f"model.{name} drops {module.p}, the model's configuration says "
                f"{config.dropout}"
            )
    sizes = dict(
        d_model=config.d_model,
        nhead=config.num_heads,
        dim_feedforward=config.d_ff,
        dropout=config.dropout,
        norm_first=config.norm_first,
        batch_first=True,
    )

    def final_norm() -> nn.LayerNorm | None:
        return nn.LayerNorm(config.d_model) if config.final_norm else None

    # On meta, nothing is allocated and no random number is drawn.
    with torch.device("meta"):
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**sizes),
            config.num_encoder_layers,
            final_norm(),
            # Nested tensors leave out PAD positions, and warn about themselves.
            enable_nested_tensor=False,
        )
        decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**sizes), config.num_decoder_layers, final_norm()
        )
        stacks = nn.Transformer(
            config.d_model,
            config.num_heads,
            batch_first=True,
            custom_encoder=encoder,
            custom_decoder=decoder,
        )
        converted = TorchTransformer(
            stacks,
            make_embedding(config.src_vocab_size, config.d_model),
            make_embedding(config.tgt_vocab_size, config.d_model),
            nn.Linear(config.d_model, config.tgt_vocab_size),
            config.max_len,
            config.pad_token_id,
        )
    weights = model.state_dict()
    _fill(
        converted,
        {
            theirs: torch.cat([weights[name] for name in ours])
            for theirs, ours in torch_names(model).items()
        },
        like=model.output_projection.weight,
    )
    return converted.train(model.training)


def from_torch(model: TorchTransformer) -> Transformer:
    """A copy of `model` whose layers are this package's, with the same weights.

    Weights that two parts share become two copies, as in a checkpoint.

    Raises:
        TypeError: if the stacks are made of other layers than PyTorch's own.
        ValueError: if `model` computes something for which `Transformer` has no option.
    """
    check_class("model", model, TorchTransformer)
    stacks = model.stacks
    kind = _kind_of_layers(stacks)
    for name in ("src_embedding", "tgt_embedding"):
        embedding = getattr(model, name)
        if embedding.max_norm is not None or embedding.scale_grad_by_freq:
            raise ValueError(
                f"{name} must have no max_norm and no scale_grad_by_freq, got {embedding}"
            )
    with torch.device("meta"):
        converted = Transformer(
            model.src_embedding.num_embeddings,
            model.tgt_embedding.num_embeddings,
            stacks.d_model,
            kind.num_heads,
            len(stacks.encoder.layers),
            len(stacks.decoder.layers),
            kind.d_ff,
            model.max_len,
            kind.dropout,
            norm_first=kind.norm_first,
            pad_token_id=model.pad_token_id,
            final_norm=stacks.encoder.norm is not None,
        )
    names = torch_names(converted)
    weights = {}
    for name, theirs in model.state_dict().items():
        ours = names.get(name, [name])
        weights |= zip(ours, theirs.chunk(len(ours)), strict=True)
    try:
        _fill(converted, weights, like=model.output_projection.weight)
    except RuntimeError as error:
        raise ValueError(f"these weights do not fit a Transformer: {error}") from error
    return converted.train(model.training)


def _fill(on_meta: nn.Module, weights: dict[str, Tensor], like: Tensor) -> None:
    """Give a model from the meta device its numbers, in type and device of `like`."""
    on_meta.to(like.dtype).to_empty(device=like.device)
    on_meta.load_state_dict(weights)


def torch_names(model: Transformer) -> dict[str, list[str]]:
    """Every parameter of `to_torch(model)`, and those of `model` it is stacked from.

    PyTorch keeps the query, key and value projections of each attention one above the
    other: the three matrices as `in_proj_weight`, the three biases as `in_proj_bias`.
    Every other parameter has one counterpart.
    """
    names: dict[str, list[str]] = {}
    for ours in model.state_dict():
        names.setdefault(_torch_name(ours), []).append(ours)
    return names


def _torch_name(name: str) -> str:
    stack = name.partition(".")[0]
    if stack not in ("encoder", "decoder"):
        return name
    if stack == "encoder":
        name = name.replace("feed_forward_add_norm.norm", "norm2")
    for ours, theirs in _TORCH_NAMES.items():
        name = name.replace(ours, theirs)
    return f"stacks.{name}"


class _LayerKind(NamedTuple):
    """What must be the same in every layer, for `Transformer` has one value for all."""

    num_heads: int
    d_ff: int
    dropout: float
    norm_first: bool


def _kind_of_layers(stacks: nn.Transformer) -> _LayerKind:
    """Refuse whatever `Transformer` cannot compute; return what all layers share."""
    layers = _layers(stacks)
    for layer in layers:
        if not (layer.activation is F.relu or type(layer.activation) is nn.ReLU):
            raise ValueError(
                f"the layers must use ReLU, as in the paper, got {layer.activation}"
            )
        if layer.linear1.bias is None:
            raise ValueError("the layers must have biases, got bias=False")
    for module in stacks.modules():
        check_layer_norm_eps(module)
        if isinstance(module, nn.MultiheadAttention) and module.add_zero_attn:
            raise ValueError("the layers must attend without add_zero_attn")
    if (stacks.encoder.norm is None) != (stacks.decoder.norm is None):
        raise ValueError("either both stacks must end in a layer norm or neither")
    kinds = {
        _LayerKind(
            attention.num_heads, layer.linear1.out_features, dropout.p, layer.norm_first
        )
        for layer in layers
        for attention in (
            layer.self_attn,
            getattr(layer, "multihead_attn", layer.self_attn),
        )
        # Dropout of the sub-layers' outputs; what torch drops inside them has no equal.
        for dropout in (
            layer.dropout1,
            layer.dropout2,
            getattr(layer, "dropout3", layer.dropout2),
        )
    }
    if len(kinds) > 1:
        raise ValueError(
            "all layers must have the same heads, width, dropout and norm, got "
            + " and ".join(map(str, sorted(kinds)))
        )
    return kinds.pop()


def _layers(
    stacks: nn.Transformer,
) -> list[nn.TransformerEncoderLayer | nn.TransformerDecoderLayer]:
    """All layers of both stacks; refuse what is not PyTorch's own."""
    check_class("stacks", stacks, nn.Transformer)
    layers = []
    for name, stack_class, layer_class in (
        ("encoder", nn.TransformerEncoder, nn.TransformerEncoderLayer),
        ("decoder", nn.TransformerDecoder, nn.TransformerDecoderLayer),
    ):
        stack = getattr(stacks, name)
        check_class(f"stacks.{name}", stack, stack_class)
        if not stack.layers:
            raise ValueError(f"stacks.{name} must have at least 1 layer, got 0")
        if stack.norm is not None:
            check_class(f"stacks.{name}.norm", stack.norm, nn.LayerNorm)
        with torch.device("meta"):
            as_built = layer_class(1, 1, 1)
        for number, layer in enumerate(stack.layers):
            check_same_classes(f"stacks.{name}.layers.{number}", layer, as_built)
        layers += stack.layers
    return layers
