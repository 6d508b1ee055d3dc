"""The encoder: it reads the whole source at once (paper, figure 1, left)."""

from torch import Tensor, nn

from transformer.add_norm import AddNorm
from transformer.attention import MultiHeadAttention
from transformer.checks import (
    check_positive_int,
    check_token_id,
    check_tokens,
    check_vectors,
)
from transformer.embedding import embed, make_embedding
from transformer.feed_forward import FeedForward
from transformer.masks import padding_mask
from transformer.position_encoding import PositionalEncoding
from transformer.tokens import PAD


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network, each with its Add & Norm."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        *,
        norm_first: bool = False,
    ) -> None:
        """Build both sub-layers; see `Transformer` for the meaning of the sizes."""
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.self_attention_add_norm = AddNorm(d_model, dropout, norm_first=norm_first)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_add_norm = AddNorm(d_model, dropout, norm_first=norm_first)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[batch, length, d_model]` → `[batch, length, d_model]`.

        Args:
            mask: boolean, broadcastable to `[batch, heads, query, key]`; True = may
                attend.
        """
        x = self.self_attention_add_norm(
            x, lambda x: self.self_attention(x, x, x, mask)[0]
        )
        return self.feed_forward_add_norm(x, self.feed_forward)


class Encoder(nn.Module):
    """A stack of encoder layers.

    `final_norm` says whether a last layer norm closes it. By default a pre-norm stack has
    one; a post-norm stack, as in the paper, has none.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        *,
        norm_first: bool = False,
        final_norm: bool | None = None,
    ) -> None:
        """Build `num_layers` layers of equal sizes; see `Transformer` for the meaning."""
        super().__init__()
        num_layers = check_positive_int("num_layers", num_layers)
        d_model = check_positive_int("d_model", d_model)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, d_ff, dropout, norm_first=norm_first)
            for _ in range(num_layers)
        )
        has_final_norm = norm_first if final_norm is None else final_norm
        self.norm = nn.LayerNorm(d_model) if has_final_norm else nn.Identity()
        self.d_model = d_model

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[batch, length, d_model]` → `[batch, length, d_model]`, the memory."""
        check_vectors("x", x, self.d_model)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TransformerEncoder(nn.Module):
    """Embedding, positions and `Encoder` in one: token ids in, vectors out."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        d_ff: int = 2048,
        max_len: int = 5000,
        dropout: float = 0.1,
        *,
        norm_first: bool = False,
        pad_token_id: int = PAD,
    ) -> None:
        """Build the three parts; see `Transformer` for the meaning of the sizes."""
        super().__init__()
        vocab_size = check_positive_int("vocab_size", vocab_size)
        d_model = check_positive_int("d_model", d_model)
        self.pad_token_id = check_token_id("pad_token_id", pad_token_id, vocab_size)
        self.encoder = Encoder(
            num_layers, d_model, num_heads, d_ff, dropout, norm_first=norm_first
        )
        self.position_encoding = PositionalEncoding(d_model, max_len, dropout)
        self.embedding = make_embedding(vocab_size, d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids `[batch, length]` → vectors `[batch, length, d_model]`."""
        check_tokens(
            "tokens",
            tokens,
            self.embedding.num_embeddings,
            self.position_encoding.max_len,
        )
        x = embed(tokens, self.embedding, self.position_encoding)
        return self.encoder(x, padding_mask(tokens, self.pad_token_id))
