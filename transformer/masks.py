"""Who may look at whom.

One convention in the whole package: a mask is boolean and **True means "may attend"**.
(`torch.nn.Transformer` uses the opposite for its boolean masks.)
"""

import torch
from torch import Tensor

from transformer.tokens import PAD


def padding_mask(tokens: Tensor, pad_token_id: int = PAD) -> Tensor:
    """Hide PAD keys from every query.

    Args:
        tokens: ids `[batch, key]`.

    Returns:
        Boolean `[batch, 1, 1, key]`: one row of keys, shared by all heads and all
        queries.
    """
    return (tokens != pad_token_id)[:, None, None, :]


def causal_mask(length: int, device: torch.device | str | None = None) -> Tensor:
    """Hide the future: position i may attend to positions 0 … i (paper, section 3.2.3).

    Returns:
        Boolean `[query, key]`, True on and below the diagonal.
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def target_mask(tokens: Tensor, pad_token_id: int = PAD) -> Tensor:
    """Hide both PAD and the future from the decoder's self-attention.

    Args:
        tokens: target ids `[batch, length]`.

    Returns:
        Boolean `[batch, 1, query, key]`.
    """
    return padding_mask(tokens, pad_token_id) & causal_mask(
        tokens.size(1), tokens.device
    )
