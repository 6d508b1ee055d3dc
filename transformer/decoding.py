"""Writing the target token by token.

Greedy decoding and sampling are the same loop, `decode`: they differ only in how they
choose the next token. The loop owns the key/value cache. `decode_uncached` is the readable
oracle: it feeds the whole prefix through the model at every step, and must give the same
tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transformer.checks import check_positive_int, check_token_id, check_tokens
from transformer.runtime import evaluation_mode

if TYPE_CHECKING:
    from transformer.transformer import Transformer

#: Picks the next ids `[batch]` from logits `[batch, vocab]`.
Choice = Callable[[Tensor], Tensor]


def likeliest(logits: Tensor) -> Tensor:
    """Greedy choice: logits `[batch, vocab]` → ids `[batch]`."""
    return logits.argmax(dim=-1)


def without_token(logits: Tensor, token_id: int) -> Tensor:
    """Give `token_id` no chance: its logit becomes -inf. Logits `[..., vocab]`."""
    logits = logits.clone()
    logits[..., token_id] = -torch.inf
    return logits


def check_decoding(
    model: Transformer,
    src: Tensor,
    max_len: int,
    start_token_id: int,
    end_token_id: int,
) -> None:
    """Raise unless decoding can begin with START and end within `model.max_len`."""
    check_tokens("src", src, model.config.src_vocab_size, model.max_len)
    check_positive_int("max_len", max_len)
    if max_len > model.max_len:
        raise ValueError(
            f"max_len ({max_len}) is longer than the model's max_len ({model.max_len}): "
            "ask for fewer tokens or build the model with a larger max_len"
        )
    for name, token_id in (
        ("start_token_id", start_token_id),
        ("end_token_id", end_token_id),
    ):
        check_token_id(name, token_id, model.config.tgt_vocab_size)
        if token_id == model.pad_token_id:
            raise ValueError(
                f"{name} ({token_id}) must differ from pad_token_id "
                f"({model.pad_token_id}): nothing attends to PAD"
            )


def decode(
    model: Transformer,
    src: Tensor,
    max_len: int,
    start_token_id: int,
    end_token_id: int,
    choose: Choice = likeliest,
) -> Tensor:
    """Write one token a step until every row has ended or is `max_len` long.

    Each step feeds only the newest token; keys and values of the earlier ones are
    cached. Dropout is off, whatever mode the model is in. PAD is never chosen.

    Args:
        src: source ids `[batch, src_len]`.
        max_len: longest result, START and END included.
        choose: picks the next ids `[batch]` from logits `[batch, vocab]`.

    Returns:
        Ids `[batch, ≤ max_len]`, beginning with START; a row that has ended is filled
        with PAD.
    """
    check_decoding(model, src, max_len, start_token_id, end_token_id)
    with evaluation_mode(model), torch.inference_mode():
        cache = model.start_cache(src, capacity=max_len)
        rows = _Rows(model, src, start_token_id, end_token_id)
        while rows.unfinished and rows.length < max_len:
            logits = model.next_logits(rows.newest, cache)
            rows.append(choose(without_token(logits, model.pad_token_id)))
    return rows.result


def decode_uncached(
    model: Transformer,
    src: Tensor,
    max_len: int,
    start_token_id: int,
    end_token_id: int,
    choose: Choice = likeliest,
) -> Tensor:
    """Same as `decode`, recomputing everything at every step: slow, easy to trust."""
    check_decoding(model, src, max_len, start_token_id, end_token_id)
    with evaluation_mode(model), torch.inference_mode():
        rows = _Rows(model, src, start_token_id, end_token_id)
        while rows.unfinished and rows.length < max_len:
            logits = model(src, rows.tokens)[:, -1]
            rows.append(choose(without_token(logits, model.pad_token_id)))
    return rows.result


class _Rows:
    """The target tokens written so far, `[batch, length]`, and which rows have ended."""

    def __init__(self, model: Transformer, src: Tensor, start: int, end: int) -> None:
        self.tokens = src.new_full((src.size(0), 1), start, dtype=torch.int64)
        self.ended = torch.zeros(src.size(0), dtype=torch.bool, device=src.device)
        self.pad = model.pad_token_id
        self.end = end

    @property
    def length(self) -> int:
        return self.tokens.size(1)

    @property
    def result(self) -> Tensor:
        # PyTorch trains on no tensor that was made in inference mode; a copy is free of it.
        return self.tokens.clone()

    @property
    def newest(self) -> Tensor:
        return self.tokens[:, -1]

    @property
    def unfinished(self) -> bool:
        return not self.ended.all()

    def append(self, chosen: Tensor) -> None:
        chosen = chosen.masked_fill(self.ended, self.pad)
        self.tokens = torch.cat([self.tokens, chosen[:, None]], dim=1)
        self.ended = self.ended | (chosen == self.end)
