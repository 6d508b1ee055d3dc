"""Where each token stands (paper, section 3.5)."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from transformer.checks import check_dropout, check_positive_int, check_vectors

#: The longest table that is kept; the sinusoids of later positions are computed when used.
MAX_TABLE_LENGTH = 2**16


def sinusoids(
    max_len: int, d_model: int, *, start: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The table of sines and cosines of positions `start … max_len - 1`, one row each.

        PE(pos, 2i)     = sin(pos / 10000^(2i / d_model))
        PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model))

    Computed in float64 and on the CPU, for not every device knows float64; then rounded
    once to `dtype`.
    """
    exact = dict(dtype=torch.float64, device="cpu")
    position = torch.arange(start, max_len, **exact)[:, None]
    even = torch.arange(0, d_model, 2, **exact)
    angle = position * torch.exp(-math.log(10_000) * even / d_model)
    table = torch.empty(max_len - start, d_model, **exact)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle[:, : d_model // 2].cos()
    return table.to(dtype)


class PositionalEncoding(nn.Module):
    """Add to each vector the sinusoids of its position, then apply dropout.

    Nothing here is trained, and nothing is stored in a checkpoint: the table follows
    from `max_len` and `d_model`. Whatever moves or converts the module, the table is made
    anew from the formula, so that it is never rounded twice and never lost.
    """

    table: Tensor

    def __init__(self, d_model: int, max_len: int = 5000, dropout: float = 0.1) -> None:
        """Compute the table for positions 0 … `max_len - 1`, as far as it is kept."""
        super().__init__()
        self.d_model = check_positive_int("d_model", d_model)
        self.max_len = check_positive_int("max_len", max_len)
        check_dropout(dropout)
        self.dropout = nn.Dropout(dropout)
        kept = min(self.max_len, MAX_TABLE_LENGTH)
        table = torch.empty(kept, self.d_model)
        self.register_buffer("table", table, persistent=False)
        self._fill_table()

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
        return self.dropout(x + self.rows(start, end, like=x))

    def rows(self, start: int, end: int, like: Tensor) -> Tensor:
        """The sinusoids of positions `start … end - 1`, in type and device of `like`.

        They are taken from the table where it has them, else computed.
        """
        fits = self.table.dtype == like.dtype and self.table.device == like.device
        if fits and end <= len(self.table):
            return self.table[start:end]
        rows = sinusoids(end, self.d_model, start=start, dtype=like.dtype)
        return rows.to(like.device)

    def _fill_table(self) -> None:
        if not self.table.is_meta:
            with torch.no_grad():
                self.table.copy_(sinusoids(*self.table.shape, dtype=self.table.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `half`, `to_empty` and the like go through."""
        before = self.table
        super()._apply(fn, recurse)
        if self.table is not before:
            self._fill_table()
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """What `load_state_dict` calls: weights have come, so a table must be there."""
        super()._load_from_state_dict(*arguments)
        if self.table.is_meta:
            self.to_empty(device="cpu")
