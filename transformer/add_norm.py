"""The "Add & Norm" around every sub-layer (paper, figure 1 and section 3.1)."""

from collections.abc import Callable

from torch import Tensor, nn

from transformer.checks import check_bool, check_dropout, check_positive_int


class AddNorm(nn.Module):
    """A residual connection, dropout and layer normalisation around one sub-layer.

    post-norm (the paper, default):  LayerNorm(x + Dropout(sublayer(x)))
    pre-norm (`norm_first=True`):    x + Dropout(sublayer(LayerNorm(x)))
    """

    def __init__(
        self, d_model: int, dropout: float = 0.1, *, norm_first: bool = False
    ) -> None:
        """Build the layer norm and the dropout; the sub-layer is passed to `forward`."""
        super().__init__()
        d_model = check_positive_int("d_model", d_model)
        check_dropout(dropout)
        check_bool("norm_first", norm_first)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm_first

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """`[batch, length, d_model]` → `[batch, length, d_model]`."""
        if self.norm_first:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))
