"""Writing the target token by token.

Greedy decoding and sampling are the same loop, `decode`: they differ only in how they
choose the next token. The loop owns the key/value cache. `decode_uncached` is the readable
oracle: it feeds the whole prefix through the model at every step, and must give the same
logits up to rounding.

Decoding needs an interface and no class: `CachedModel` says what `decode` and `beam_search`
call, `UncachedModel` what `decode_uncached` calls.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from transformer.checks import check_positive_int, check_token_id, check_tokens
from transformer.runtime import HasModules, evaluation_mode

#: Picks the next ids `[batch]` from logits `[batch, vocab]`.
Choice = Callable[[Tensor], Tensor]


class VocabularySizes(Protocol):
    """How many different tokens a model reads and writes."""

    @property
    def src_vocab_size(self) -> int:
        """Source ids run from 0 to `src_vocab_size - 1`."""

    @property
    def tgt_vocab_size(self) -> int:
        """Target ids run from 0 to `tgt_vocab_size - 1`."""


class DecodingLimits(HasModules, Protocol):
    """What every way of decoding needs of a model: its limits, and its modules."""

    max_len: int
    """Longest source or target, in tokens."""
    pad_token_id: int
    """The id that fills short rows and is never written."""

    @property
    def config(self) -> VocabularySizes:
        """Holds the sizes of the two vocabularies."""


class SelectableCache(Protocol):
    """What `beam_search` needs of a cache."""

    def select(self, rows: Tensor) -> None:
        """Keep the batch rows `rows`, indices `[new_batch]`, in that order."""


class CachedModel(DecodingLimits, Protocol):
    """What `decode` and `beam_search` need of a model: to go on from a cache."""

    def start_cache(self, src: Tensor, capacity: int) -> SelectableCache:
        """Read `src`, ids `[batch, src_len]`; make ready for `capacity` target tokens."""

    # A model reads only the caches that it has made, which the type cannot say.
    def next_logits(self, tokens: Tensor, cache: Any) -> Tensor:
        """Feed the newest ids `[batch]`; return logits `[batch, tgt_vocab_size]`."""


class UncachedModel(DecodingLimits, Protocol):
    """What `decode_uncached` needs of a model: to be called with source and target ids."""

    def __call__(self, src: Tensor, tgt_in: Tensor) -> Tensor:
        """Predict after every position of `tgt_in`: `[batch, tgt_len, tgt_vocab_size]`."""


def likeliest(logits: Tensor) -> Tensor:
    """Greedy choice: logits `[batch, vocab]` → ids `[batch]`."""
    return logits.argmax(dim=-1)


def without_token(logits: Tensor, token_id: int) -> Tensor:
    """Give `token_id` no chance: its logit becomes -inf. Logits `[..., vocab]`."""
    logits = logits.clone()
    logits[..., token_id] = -torch.inf
    return logits


def choosable(
    logits: Tensor, is_live: Tensor, pad_token_id: int, position: int
) -> Tensor:
    """The logits to choose the next tokens by: PAD gets no chance.

    Args:
        logits: `[batch, vocab]`, or `[batch, beam, vocab]`.
        is_live: which rows, or beams, still need a token, boolean. What the model
            predicts for the others does not matter.
        position: the index, within a row, of the token to choose.

    Returns:
        As `logits`.

    Raises:
        FloatingPointError: if logits of a live row hold NaN or +inf, or -inf alone.
    """
    logits = without_token(logits, pad_token_id)
    largest = logits.amax(dim=-1)  # NaN if one of them is
    is_odd = ~largest.isfinite()
    if is_odd.any():
        wrong = (is_odd & is_live).nonzero()
        if len(wrong):
            raise FloatingPointError(
                f"at position {position} of row {wrong[0, 0]} the largest logit is "
                f"{largest[tuple(wrong[0])]}, so no token can be chosen: look for NaN or "
                "infinity in the weights, or compute with numbers of a wider range"
            )
        logits.masked_fill_(is_odd.unsqueeze(-1), 0.0)
    return logits


def check_decoding(
    model: DecodingLimits,
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
    model: CachedModel,
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

    Raises:
        TypeError, ValueError: if an argument does not fit the model, naming it.
        FloatingPointError: if the model predicts NaN or infinity; see `choosable`.
    """
    check_decoding(model, src, max_len, start_token_id, end_token_id)
    with evaluation_mode(model), torch.no_grad():
        cache = model.start_cache(src, capacity=max_len)
        rows = _Rows(model, src, start_token_id, end_token_id)
        while rows.unfinished and rows.length < max_len:
            logits = model.next_logits(rows.newest, cache)
            rows.append(choose(rows.choices(logits)))
    return rows.tokens


def decode_uncached(
    model: UncachedModel,
    src: Tensor,
    max_len: int,
    start_token_id: int,
    end_token_id: int,
    choose: Choice = likeliest,
) -> Tensor:
    """As `decode`, recomputing everything at every step: slow, easy to trust.

    Logits are the same up to rounding, so where two tokens are almost equally likely, the
    rows may part.
    """
    check_decoding(model, src, max_len, start_token_id, end_token_id)
    with evaluation_mode(model), torch.no_grad():
        rows = _Rows(model, src, start_token_id, end_token_id)
        while rows.unfinished and rows.length < max_len:
            logits = model(src, rows.tokens)[:, -1]
            rows.append(choose(rows.choices(logits)))
    return rows.tokens


class _Rows:
    """The target tokens written so far, `[batch, length]`, and which rows have ended."""

    def __init__(
        self, model: DecodingLimits, src: Tensor, start: int, end: int
    ) -> None:
        self.tokens = src.new_full((src.size(0), 1), start, dtype=torch.int64)
        self.ended = torch.zeros(src.size(0), dtype=torch.bool, device=src.device)
        self.pad = model.pad_token_id
        self.end = end

    @property
    def length(self) -> int:
        return self.tokens.size(1)

    @property
    def newest(self) -> Tensor:
        return self.tokens[:, -1]

    @property
    def unfinished(self) -> bool:
        return not self.ended.all()

    def choices(self, logits: Tensor) -> Tensor:
        return choosable(logits, ~self.ended, self.pad, self.length)

    def append(self, chosen: Tensor) -> None:
        chosen = chosen.masked_fill(self.ended, self.pad)
        self.tokens = torch.cat([self.tokens, chosen[:, None]], dim=1)
        self.ended = self.ended | (chosen == self.end)
