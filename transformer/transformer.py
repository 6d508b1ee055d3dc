"""The encoder-decoder Transformer (paper, figure 1)."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from transformer.beam_search import BeamResult, beam_search
from transformer.checks import (
    check_bool,
    check_class,
    check_dropout,
    check_heads,
    check_layer_norm_eps,
    check_positive_int,
    check_same_batch,
    check_same_classes,
    check_token_id,
    check_tokens,
    check_weights,
)
from transformer.decoder import Decoder
from transformer.decoding import decode
from transformer.embedding import embed, make_embedding
from transformer.encoder import Encoder
from transformer.kv_cache import DecoderCache
from transformer.masks import padding_mask, target_mask
from transformer.position_encoding import PositionalEncoding
from transformer.sampling import Sampler
from transformer.tokens import PAD


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters; one that is shared counts once."""
    return sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )


@dataclass(frozen=True)
class TransformerConfig:
    """Everything needed to build a `Transformer` again; see there for the meaning."""

    src_vocab_size: int
    tgt_vocab_size: int
    d_model: int = 512
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    d_ff: int = 2048
    max_len: int = 5000
    dropout: float = 0.1
    norm_first: bool = False
    pad_token_id: int = PAD
    final_norm: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built, naming the numbers; keep sizes as plain ints."""
        sizes = {
            name: check_positive_int(name, getattr(self, name))
            for name in (
                "src_vocab_size",
                "tgt_vocab_size",
                "d_model",
                "num_heads",
                "num_encoder_layers",
                "num_decoder_layers",
                "d_ff",
                "max_len",
            )
        }
        check_heads(self.d_model, self.num_heads)
        check_dropout(self.dropout)
        check_bool("norm_first", self.norm_first)
        if self.final_norm is not None:
            check_bool("final_norm", self.final_norm)
        smallest = min(sizes["src_vocab_size"], sizes["tgt_vocab_size"])
        pad_token_id = check_token_id("pad_token_id", self.pad_token_id, smallest)
        for name, value in (sizes | {"pad_token_id": pad_token_id}).items():
            object.__setattr__(self, name, value)  # The dataclass is frozen.


class Transformer(nn.Module):
    """Encoder, decoder and output projection, from token ids to logits.

    The model builds its own masks: nothing attends to PAD, and the decoder sees no
    future. Its modules hold weights only; decoding keeps its cache outside.
    """

    def __init__(
        self,
        src_vocab_size: int,
        tgt_vocab_size: int,
        d_model: int = 512,
        num_heads: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        d_ff: int = 2048,
        max_len: int = 5000,
        dropout: float = 0.1,
        *,
        norm_first: bool = False,
        pad_token_id: int = PAD,
        final_norm: bool | None = None,
    ) -> None:
        """Build the model. All other sizes default to those of the paper's base model.

        Args:
            src_vocab_size: number of different source tokens.
            tgt_vocab_size: number of different target tokens.
            d_model: width of every vector that passes between layers.
            num_heads: attention heads per attention module; must divide `d_model`.
            num_encoder_layers: depth of the encoder.
            num_decoder_layers: depth of the decoder.
            d_ff: width inside the feed-forward networks.
            max_len: longest source or target, in tokens.
            dropout: share of each sub-layer's output, and of the sums of embeddings and
                positions, that training drops, in [0, 1).
            norm_first: False: post-norm, as in the paper. True: pre-norm.
            pad_token_id: the id that fills short rows.
            final_norm: whether a last layer norm closes each stack. None: pre-norm
                stacks have one; post-norm stacks, as in the paper, have none.

        Raises:
            TypeError, ValueError: if a value cannot be used, naming it.
        """
        super().__init__()
        final_norm = norm_first if final_norm is None else final_norm
        self.config = config = TransformerConfig(
            src_vocab_size,
            tgt_vocab_size,
            d_model,
            num_heads,
            num_encoder_layers,
            num_decoder_layers,
            d_ff,
            max_len,
            dropout,
            norm_first,
            pad_token_id,
            final_norm,
        )
        self.d_model = config.d_model
        self.max_len = config.max_len
        self.pad_token_id = config.pad_token_id
        self.src_embedding = make_embedding(config.src_vocab_size, config.d_model)
        self.tgt_embedding = make_embedding(config.tgt_vocab_size, config.d_model)
        self.position_encoding = PositionalEncoding(
            config.d_model, config.max_len, dropout
        )
        self.encoder = Encoder(
            num_encoder_layers,
            d_model,
            num_heads,
            d_ff,
            dropout,
            norm_first=norm_first,
            final_norm=final_norm,
        )
        self.decoder = Decoder(
            num_decoder_layers,
            d_model,
            num_heads,
            d_ff,
            dropout,
            norm_first=norm_first,
            final_norm=final_norm,
        )
        self.output_projection = nn.Linear(config.d_model, config.tgt_vocab_size)

    def forward(self, src: Tensor, tgt_in: Tensor) -> Tensor:
        """Predict, at every target position, the token that comes next.

        Args:
            src: source ids `[batch, src_len]`.
            tgt_in: target ids `[batch, tgt_len]`, beginning with START.

        Returns:
            Logits `[batch, tgt_len, tgt_vocab_size]`.

        Raises:
            TypeError, ValueError: if ids, shapes or batch sizes do not fit, naming
                them.
        """
        memory = self.encode(src)
        check_tokens("tgt_in", tgt_in, self.config.tgt_vocab_size, self.max_len)
        check_same_batch("src", src, "tgt_in", tgt_in)
        x = embed(tgt_in, self.tgt_embedding, self.position_encoding)
        tgt_mask = target_mask(tgt_in, self.pad_token_id)
        x = self.decoder(x, memory, tgt_mask, padding_mask(src, self.pad_token_id))
        return self.output_projection(x)

    def encode(self, src: Tensor) -> Tensor:
        """Read the source: ids `[batch, src_len]` → memory `[batch, src_len, d_model]`."""
        check_tokens("src", src, self.config.src_vocab_size, self.max_len)
        mask = padding_mask(src, self.pad_token_id)
        return self.encoder(
            embed(src, self.src_embedding, self.position_encoding), mask
        )

    def start_cache(self, src: Tensor, capacity: int) -> DecoderCache:
        """Encode `src` and begin to decode up to `capacity` positions step by step."""
        mask = padding_mask(src, self.pad_token_id)
        # A mask that hides nothing would cost time at every step.
        memory_mask = None if mask.all() else mask
        return self.decoder.start_cache(self.encode(src), memory_mask, capacity)

    def next_logits(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """Feed the newest target token of every row; predict the one after it.

        Args:
            tokens: ids `[batch]`.
            cache: what `start_cache` returned; it remembers all earlier tokens.

        Returns:
            Logits `[batch, tgt_vocab_size]`, equal to `model(src, tgt_so_far)[:, -1]` as
            long as `tgt_so_far` contains no PAD.
        """
        x = embed(
            tokens[:, None],
            self.tgt_embedding,
            self.position_encoding,
            start=cache.length,
        )
        return self.output_projection(self.decoder.step(x, cache)[:, 0])

    def greedy_decode(
        self, src: Tensor, max_len: int, start_token_id: int, end_token_id: int
    ) -> Tensor:
        """Write the likeliest token at every step.

        Args:
            src: source ids `[batch, src_len]`.
            max_len: longest result, START and END included.
            start_token_id: the first token of every row.
            end_token_id: the token after which a row has ended.

        Returns:
            Ids `[batch, ≤ max_len]`; a row that has ended is filled with PAD.
        """
        return decode(self, src, max_len, start_token_id, end_token_id)

    def generate(
        self,
        src: Tensor,
        max_len: int,
        start_token_id: int,
        end_token_id: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the token at every step from the predicted distribution.

        Args:
            src: source ids `[batch, src_len]`.
            max_len: longest result, START and END included.
            start_token_id: the first token of every row.
            end_token_id: the token after which a row has ended.
            temperature: below 1 sharpens the distribution, above 1 flattens it.
            top_k: draw from the k likeliest tokens only; 1 equals `greedy_decode`.
            top_p: draw from the fewest likeliest tokens that together reach probability
                p.
            generator: the source of randomness; None takes PyTorch's global one.

        Returns:
            Ids `[batch, ≤ max_len]`; a row that has ended is filled with PAD.
        """
        choose = Sampler(temperature, top_k, top_p, generator)
        return decode(self, src, max_len, start_token_id, end_token_id, choose)

    def beam_search(
        self,
        src: Tensor,
        max_len: int,
        start_token_id: int,
        end_token_id: int,
        beam_size: int = 4,
        length_penalty: float = 1.0,
    ) -> BeamResult:
        """Follow the `beam_size` likeliest prefixes at once; see `beam_search`."""
        return beam_search(
            self, src, max_len, start_token_id, end_token_id, beam_size, length_penalty
        )

    def extra_repr(self) -> str:
        """Show the configuration when the model is printed."""
        return ", ".join(
            f"{name}={value}" for name, value in asdict(self.config).items()
        )


def check_own_parts(model: Transformer) -> None:
    """Raise unless `model` is made of the parts that its configuration says.

    What a part of another class computes would be lost when weights alone are taken over.

    Raises:
        TypeError: if a part is of another class, missing, or too many, naming it.
        ValueError: if a layer norm has another eps than PyTorch's default, or the weights
            have other names (as of pruned layers), other shapes, a bias more or less, or
            more than one type.
    """
    check_class("model", model, Transformer)
    # On meta, nothing is allocated and no random number is drawn.
    with torch.device("meta"):
        as_built = Transformer(**asdict(model.config))
    check_same_classes("model", model, as_built)
    for module in model.modules():
        check_layer_norm_eps(module)
    check_weights("of model", model.state_dict(), as_built.state_dict())
