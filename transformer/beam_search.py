"""Following several prefixes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.checks import check_number, check_positive_int
from transformer.decoding import check_decoding, without_token
from transformer.runtime import evaluation_mode

if TYPE_CHECKING:
    from transformer.transformer import Transformer


#: Far beyond any sensible value, and small enough for length^length_penalty to be a float.
MAX_LENGTH_PENALTY = 10


class BeamResult(NamedTuple):
    """The best result of every row, and its score."""

    tokens: Tensor
    """Ids `[batch, ≤ max_len]`, beginning with START; filled with PAD after END."""
    scores: Tensor
    """Log-probability divided by length^length_penalty, `[batch]`."""


def beam_search(
    model: Transformer,
    src: Tensor,
    max_len: int,
    start_token_id: int,
    end_token_id: int,
    beam_size: int = 4,
    length_penalty: float = 1.0,
) -> BeamResult:
    """Keep the `beam_size` likeliest prefixes of every row and return the best result.

    A result y, which papers call a hypothesis, is scored by `log P(y | x) /
    |y|^length_penalty`, where `|y|` counts the tokens after START. A prefix that takes END
    as one of the likeliest continuations has ended: it leaves the beam, which is narrower
    by one from then on. A row is done when its beam is empty. Prefixes still alive at
    `max_len` compete as they are.

    Args:
        src: source ids `[batch, src_len]`.
        max_len: longest result, START and END included.
        start_token_id: the first token of every row.
        end_token_id: the token after which a result has ended.
        beam_size: prefixes followed at once; 1 equals greedy decoding.
        length_penalty: 0 compares plain log-probabilities, which favours short results.

    Returns:
        `BeamResult(tokens, scores)`.
    """
    check_decoding(model, src, max_len, start_token_id, end_token_id)
    check_positive_int("beam_size", beam_size)
    check_number("length_penalty", length_penalty)
    if not 0 <= length_penalty <= MAX_LENGTH_PENALTY:
        raise ValueError(
            f"length_penalty must lie in [0, {MAX_LENGTH_PENALTY}], got {length_penalty}"
        )
    with evaluation_mode(model), torch.inference_mode():
        cache = model.start_cache(src, capacity=max_len)
        rows = torch.arange(src.size(0), device=src.device).repeat_interleave(beam_size)
        cache.select(rows)
        beams = _Beams(src, start_token_id, end_token_id, model.pad_token_id, beam_size)
        while beams.alive and beams.length < max_len:
            logits = model.next_logits(beams.newest, cache)
            cache.select(beams.advance(logits, length_penalty))
        beams.end_live_prefixes(length_penalty)
    return beams.result


class _Beams:
    """The live prefixes `[batch, beam, length]`, and each row's best result so far.

    In the model the live prefixes are `batch * beam` rows.
    """

    def __init__(
        self, src: Tensor, start: int, end: int, pad: int, beam_size: int
    ) -> None:
        batch, device = src.size(0), src.device
        self.end, self.pad = end, pad
        self.tokens = torch.full((batch, beam_size, 1), start, device=device)
        # All prefixes start alike: only the first may live, or each would go the same way.
        self.scores = torch.full((batch, beam_size), -torch.inf, device=device)
        self.scores[:, 0] = 0.0
        self.num_ended = torch.zeros(batch, dtype=torch.int64, device=device)
        self.best_tokens = self.tokens[:, 0]
        self.best_scores = torch.full((batch,), -torch.inf, device=device)

    @property
    def alive(self) -> bool:
        return bool(self.scores.isfinite().any())

    @property
    def length(self) -> int:
        return self.tokens.size(2)

    @property
    def result(self) -> BeamResult:
        # PyTorch trains on no tensor that was made in inference mode; a copy is free of it.
        return BeamResult(self.best_tokens.clone(), self.best_scores.clone())

    @property
    def newest(self) -> Tensor:
        return self.tokens[:, :, -1].flatten()

    def advance(self, logits: Tensor, length_penalty: float) -> Tensor:
        """Lengthen every prefix by one token; return the model row that each continues."""
        batch, beam_size, _ = self.tokens.shape
        vocab_size = logits.size(-1)
        log_probs = without_token(logits, self.pad).log_softmax(dim=-1)
        candidates = self.scores[:, :, None] + log_probs.unflatten(
            0, (batch, beam_size)
        )

        scores, index = candidates.flatten(1).topk(beam_size)
        parent, token = index // vocab_size, index % vocab_size

        rank = torch.arange(beam_size, device=index.device)
        beam_left = (beam_size - self.num_ended)[:, None]
        scores = scores.masked_fill(rank >= beam_left, -torch.inf)
        prefix = self.tokens.gather(1, parent[:, :, None].expand(-1, -1, self.length))
        self.tokens = torch.cat([prefix, token[:, :, None]], dim=2)

        has_ended = (token == self.end) & scores.isfinite()
        self.num_ended += has_ended.sum(dim=1)
        self._remember(scores.masked_fill(~has_ended, -torch.inf), length_penalty)
        self.scores = scores.masked_fill(has_ended, -torch.inf)
        first_row = torch.arange(batch, device=index.device)[:, None] * beam_size
        return (first_row + parent).flatten()

    def end_live_prefixes(self, length_penalty: float) -> None:
        """Let the prefixes still alive compete with the results that have ended."""
        self._remember(self.scores, length_penalty)

    def _remember(self, scores: Tensor, length_penalty: float) -> None:
        """Keep each row's best prefix if, by `scores [batch, beam]`, it is the best yet."""
        num_tokens = max(self.length - 1, 1)
        scores, beam = (scores / num_tokens**length_penalty).max(dim=1)
        tokens = self.tokens[torch.arange(len(beam), device=beam.device), beam]
        is_better = scores > self.best_scores
        if is_better.any():
            room = tokens.size(1) - self.best_tokens.size(1)
            kept = F.pad(self.best_tokens, (0, room), value=self.pad)
            self.best_tokens = torch.where(is_better[:, None], tokens, kept)
            self.best_scores = torch.where(is_better, scores, self.best_scores)
