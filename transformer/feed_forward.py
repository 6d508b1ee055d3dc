"""The position-wise feed-forward network (paper, section 3.3)."""

from torch import Tensor, nn

from transformer.checks import check_positive_int, check_vectors


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between them, the same at every position.

    FFN(x) = max(0, x W_1 + b_1) W_2 + b_2                                 (equation 2)
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        """Build `d_model → d_ff → d_model`."""
        super().__init__()
        d_model = check_positive_int("d_model", d_model)
        d_ff = check_positive_int("d_ff", d_ff)
        self.d_model = d_model
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, length, d_model]` → `[batch, length, d_model]`."""
        check_vectors("x", x, self.d_model)
        return self.contract(self.expand(x).relu())
