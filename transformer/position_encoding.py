"""Where each token stands (paper, section 3.5)."""

import math

import torch
from torch import Tensor, nn

from transformer.checks import check_dropout, check_positive_int, check_vectors


def sinusoids(max_len: int, d_model: int) -> Tensor:
    """The table of sines and cosines, `[max_len, d_model]`.

        PE(pos, 2i)     = sin(pos / 10000^(2i / d_model))
        PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model))

    Computed in float64, then rounded once to float32.
    """
    position = torch.arange(max_len, dtype=torch.float64)[:, None]
    even = torch.arange(0, d_model, 2, dtype=torch.float64)
    angle = position * torch.exp(-math.log(10_000) * even / d_model)
    table = torch.empty(max_len, d_model, dtype=torch.float64)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle[:, : d_model // 2].cos()
    return table.float()


class PositionalEncoding(nn.Module):
    """Add to each vector the sinusoids of its position, then apply dropout.

    Nothing here is trained, and nothing is stored in a checkpoint: the table follows
    from `max_len` and `d_model`.
    """

    table: Tensor

    def __init__(self, d_model: int, max_len: int = 5000, dropout: float = 0.1) -> None:
        """Compute the table for positions 0 … `max_len - 1`."""
        super().__init__()
        check_positive_int("d_model", d_model)
        check_positive_int("max_len", max_len)
        check_dropout(dropout)
        self.d_model = d_model
        self.max_len = max_len
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", sinusoids(max_len, d_model), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Add positions `start … start + length - 1` to `x`, `[batch, length, d_model]`.

        Raises:
            ValueError: if the last position is not below `max_len`.
        """
        check_vectors("x", x, self.d_model)
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        end = start + x.size(1)
        if end > self.max_len:
            raise ValueError(
                f"position {end - 1} does not exist: max_len is {self.max_len}"
            )
        return self.dropout(x + self.table[start:end])
