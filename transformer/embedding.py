"""From token ids to the vectors that the first layer reads (paper, sections 3.4, 3.5)."""

import math

import torch
from torch import Tensor, nn

from transformer.position_encoding import PositionalEncoding


def make_embedding(vocab_size: int, d_model: int) -> nn.Embedding:
    """One vector per token, drawn with standard deviation `d_model^-0.5`.

    `embed` multiplies by `sqrt(d_model)`. So the entries of a token start out with a
    typical size of 1, those of a position with about 0.7.
    """
    if torch.empty(0).is_meta:
        # Nothing can be drawn. PyTorch would load its whole compiler to find that out.
        numbers = torch.empty(vocab_size, d_model)
        return nn.Embedding.from_pretrained(numbers, freeze=False)
    embedding = nn.Embedding(vocab_size, d_model)
    nn.init.normal_(embedding.weight, std=d_model**-0.5)
    return embedding


def embed(
    tokens: Tensor,
    embedding: nn.Embedding,
    position_encoding: PositionalEncoding,
    start: int = 0,
) -> Tensor:
    """`embedding(tokens) * sqrt(d_model)` plus the positions from `start` on.

    Args:
        tokens: ids `[batch, length]`.

    Returns:
        `[batch, length, d_model]`.
    """
    return position_encoding(
        embedding(tokens) * math.sqrt(embedding.embedding_dim), start
    )
