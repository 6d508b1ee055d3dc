"""The decoder: it writes the target one token at a time (paper, figure 1, right)."""

from torch import Tensor, nn

from transformer.add_norm import AddNorm
from transformer.attention import MultiHeadAttention
from transformer.checks import (
    check_positive_int,
    check_same_batch,
    check_token_id,
    check_tokens,
    check_vectors,
)
from transformer.embedding import embed, make_embedding
from transformer.feed_forward import FeedForward
from transformer.kv_cache import DecoderCache, KeyValueCache, LayerCache
from transformer.masks import target_mask
from transformer.position_encoding import PositionalEncoding
from transformer.tokens import PAD


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each with Add & Norm."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        *,
        norm_first: bool = False,
    ) -> None:
        """Build the three sub-layers; see `Transformer` for the meaning of the sizes."""
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.self_attention_add_norm = AddNorm(d_model, dropout, norm_first=norm_first)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention_add_norm = AddNorm(d_model, dropout, norm_first=norm_first)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_add_norm = AddNorm(d_model, dropout, norm_first=norm_first)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """`[batch, tgt_len, d_model]` → `[batch, tgt_len, d_model]`.

        Args:
            memory: the encoder's output `[batch, src_len, d_model]`; None with a cache,
                which holds its keys and values already.
            tgt_mask: boolean, broadcastable to `[batch, heads, tgt_len, tgt_len]`.
            memory_mask: boolean, broadcastable to `[batch, heads, tgt_len, src_len]`.
            cache: what this layer remembers of earlier positions.
        """
        past = cache.self_attention if cache else None
        cached_memory = cache.cross_attention if cache else None
        x = self.self_attention_add_norm(
            x, lambda x: self.self_attention(x, x, x, tgt_mask, cache=past)[0]
        )
        x = self.cross_attention_add_norm(
            x,
            lambda x: self.cross_attention(
                x, memory, memory, memory_mask, cache=cached_memory
            )[0],
        )
        return self.feed_forward_add_norm(x, self.feed_forward)

    def start_cache(self, memory: Tensor, capacity: int) -> LayerCache:
        """Project the memory's keys and values; leave room for `capacity` positions."""
        keys, values = self.cross_attention.project_keys_values(memory, memory)
        return LayerCache(
            self_attention=KeyValueCache(keys[:, :, :0], values[:, :, :0], capacity),
            cross_attention=KeyValueCache(keys, values),
        )


class Decoder(nn.Module):
    """A stack of decoder layers.

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
            DecoderLayer(d_model, num_heads, d_ff, dropout, norm_first=norm_first)
            for _ in range(num_layers)
        )
        has_final_norm = norm_first if final_norm is None else final_norm
        self.norm = nn.LayerNorm(d_model) if has_final_norm else nn.Identity()
        self.d_model = d_model

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Decode all target positions at once, as in training.

        Args:
            x: embedded target `[batch, tgt_len, d_model]`.
            memory: the encoder's output `[batch, src_len, d_model]`.
            tgt_mask: boolean, broadcastable to `[batch, heads, tgt_len, tgt_len]`.
            memory_mask: boolean, broadcastable to `[batch, heads, tgt_len, src_len]`.

        Returns:
            `[batch, tgt_len, d_model]`.
        """
        check_vectors("x", x, self.d_model)
        check_vectors("memory", memory, self.d_model)
        for layer in self.layers:
            x = layer(x, memory, tgt_mask, memory_mask)
        return self.norm(x)

    def start_cache(
        self, memory: Tensor, memory_mask: Tensor | None, capacity: int
    ) -> DecoderCache:
        """Begin decoding step by step.

        Args:
            memory: the encoder's output `[batch, src_len, d_model]`.
            memory_mask: boolean, broadcastable to `[batch, heads, 1, src_len]`.
            capacity: how many target positions will be decoded at most.
        """
        layers = [layer.start_cache(memory, capacity) for layer in self.layers]
        return DecoderCache(layers, memory_mask)

    def step(self, x: Tensor, cache: DecoderCache) -> Tensor:
        """Decode one more position, `[batch, 1, d_model]` → `[batch, 1, d_model]`.

        The newest position may attend to itself and to all before it, which is all that
        the cache holds: no causal mask is needed.
        """
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            x = layer(x, None, memory_mask=cache.memory_mask, cache=layer_cache)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """Embedding, positions and `Decoder` in one: ids and memory in, vectors out."""

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
        self.decoder = Decoder(
            num_layers, d_model, num_heads, d_ff, dropout, norm_first=norm_first
        )
        self.position_encoding = PositionalEncoding(d_model, max_len, dropout)
        self.embedding = make_embedding(vocab_size, d_model)

    def forward(
        self, tokens: Tensor, memory: Tensor, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Token ids `[batch, tgt_len]` → vectors `[batch, tgt_len, d_model]`.

        Args:
            memory: the encoder's output `[batch, src_len, d_model]`.
            memory_mask: boolean, broadcastable to `[batch, heads, tgt_len, src_len]`;
                True = may attend.
        """
        check_tokens(
            "tokens",
            tokens,
            self.embedding.num_embeddings,
            self.position_encoding.max_len,
        )
        check_vectors("memory", memory, self.decoder.d_model)
        check_same_batch("tokens", tokens, "memory", memory)
        x = embed(tokens, self.embedding, self.position_encoding)
        return self.decoder(
            x, memory, target_mask(tokens, self.pad_token_id), memory_mask
        )
