"""How wrong predictions are: the loss to lower, and the share of right tokens."""

import torch.nn.functional as F
from torch import Tensor

from transformer.checks import check_tokens, visible_value
from transformer.tokens import PAD


def next_token_loss(logits: Tensor, tgt_out: Tensor, pad_token_id: int = PAD) -> Tensor:
    """Mean cross-entropy over the target tokens that are not PAD.

    Args:
        logits: `[batch, tgt_len, vocab]`.
        tgt_out: ids `[batch, tgt_len]`.

    Returns:
        A scalar, in nats per token; of logits in 16 bits, computed in 32.

    Raises:
        TypeError, ValueError: if shapes do not fit, a target token is outside the
            vocabulary, or every target token is PAD.
    """
    _check_targets(logits, tgt_out, pad_token_id)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return F.cross_entropy(
        logits.flatten(0, 1), tgt_out.flatten().long(), ignore_index=pad_token_id
    )


def summed_loss(
    logits: Tensor,
    tgt_out: Tensor,
    pad_token_id: int = PAD,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Sum of the cross-entropy over the target tokens that are not PAD, if any.

    Divided by the number of such tokens in a whole step, it is the loss of that step,
    whatever share of it these are. Arguments as in `next_token_loss`, and:

    Args:
        label_smoothing: this share of every target is spread evenly over the vocabulary
            (paper, section 5.4).
    """
    _check_shapes(logits, tgt_out)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return F.cross_entropy(
        logits.flatten(0, 1),
        tgt_out.flatten().long(),
        ignore_index=pad_token_id,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def token_accuracy(logits: Tensor, tgt_out: Tensor, pad_token_id: int = PAD) -> Tensor:
    """Share of the target tokens that are not PAD for which the likeliest token is right.

    Args and errors as in `next_token_loss`; returns a scalar in [0, 1].
    """
    _check_targets(logits, tgt_out, pad_token_id)
    is_token = tgt_out != pad_token_id
    is_right = logits.argmax(dim=-1) == tgt_out
    return (is_right & is_token).sum().float() / is_token.sum()


def _check_targets(logits: Tensor, tgt_out: Tensor, pad_token_id: int) -> None:
    _check_shapes(logits, tgt_out)
    if visible_value((tgt_out != pad_token_id).any) == 0:
        raise ValueError(
            f"tgt_out {list(tgt_out.shape)} holds no token but PAD: nothing to learn from"
        )


def _check_shapes(logits: Tensor, tgt_out: Tensor) -> None:
    if not isinstance(tgt_out, Tensor):
        raise TypeError(f"tgt_out must be a tensor, got {type(tgt_out).__name__}")
    if logits.dim() != 3 or logits.shape[:2] != tgt_out.shape:
        raise ValueError(
            f"logits [batch, tgt_len, vocab] and tgt_out [batch, tgt_len] do not fit: "
            f"{list(logits.shape)} and {list(tgt_out.shape)}"
        )
    check_tokens("tgt_out", tgt_out, logits.size(2), tgt_out.size(1))
