"""Following several prefixes at once."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.checks import check_number, check_positive_int
from transformer.decoding import CachedModel, check_decoding, choosable
from transformer.runtime import evaluation_mode

#: Far beyond any sensible value, and small enough for length^length_penalty to be a float.
MAX_LENGTH_PENALTY = 10


class BeamResult(NamedTuple):
    """The best result of every row, and its score."""

    tokens: Tensor
    """Ids `[batch, ≤ max_len]`, beginning with START; filled with PAD after END."""
    scores: Tensor
    """Log-probability divided by length^length_penalty, `[batch]`."""


class NBestResult(NamedTuple):
    """The best results of every row, the best first, and their scores."""

    tokens: Tensor
    """Ids `[batch, num_results, ≤ max_len]`, each as in `BeamResult`."""
    scores: Tensor
    """Scores `[batch, num_results]`; -inf where a row has fewer results."""


def beam_search(
    model: CachedModel,
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
    as one of the row's `beam_size` likeliest continuations has ended. Its place is free:
    the beam is filled with the likeliest continuations without END. A row is done when at
    least `beam_size` results have ended and no live prefix scores better, as long as it
    is by then, than the best of them. Prefixes alive at `max_len` compete as they are.

    Args:
        src: source ids `[batch, src_len]`.
        max_len: longest result, START and END included.
        start_token_id: the first token of every row.
        end_token_id: the token after which a result has ended.
        beam_size: prefixes followed at once; 1 equals greedy decoding (except that of
            equally likely tokens it may take another).
        length_penalty: 0 compares plain log-probabilities, which favours short results.

    Returns:
        `BeamResult(tokens, scores)`.

    Raises:
        TypeError, ValueError: if an argument does not fit the model, naming it.
        FloatingPointError: if the model predicts NaN or infinity; see `choosable`.
    """
    tokens, scores = n_best(
        model, src, max_len, start_token_id, end_token_id, beam_size, length_penalty, 1
    )
    return BeamResult(tokens[:, 0], scores[:, 0])


def n_best(
    model: CachedModel,
    src: Tensor,
    max_len: int,
    start_token_id: int,
    end_token_id: int,
    beam_size: int = 4,
    length_penalty: float = 1.0,
    num_results: int | None = None,
) -> NBestResult:
    """The `num_results` best results that `beam_search` meets, not the best alone.

    All differ. A row is done when no live prefix scores better than the last of them.
    Arguments and errors as in `beam_search`, and:

    Args:
        num_results: at most `beam_size`, which None stands for.
    """
    check_decoding(model, src, max_len, start_token_id, end_token_id)
    check_positive_int("beam_size", beam_size)
    num_results = beam_size if num_results is None else num_results
    check_positive_int("num_results", num_results)
    if num_results > beam_size:
        raise ValueError(
            f"num_results ({num_results}) exceeds beam_size ({beam_size}): a row may be "
            "done when as many results as beams have ended"
        )
    check_number("length_penalty", length_penalty)
    if not 0 <= length_penalty <= MAX_LENGTH_PENALTY:
        raise ValueError(
            f"length_penalty must lie in [0, {MAX_LENGTH_PENALTY}], got {length_penalty}"
        )
    with evaluation_mode(model), torch.no_grad():
        cache = model.start_cache(src, capacity=max_len)
        rows = torch.arange(src.size(0), device=src.device).repeat_interleave(beam_size)
        cache.select(rows)
        special = start_token_id, end_token_id, model.pad_token_id
        beams = _Beams(src, special, beam_size, length_penalty, num_results)
        while beams.alive and beams.length < max_len:
            logits = model.next_logits(beams.newest, cache)
            cache.select(beams.advance(logits))
        beams.end_live_prefixes()
    return beams.result


class _Beams:
    """The live prefixes `[batch, beam, length]`, and each row's best results so far.

    In the model the live prefixes are `batch * beam` rows. A place whose score is -inf is
    empty.
    """

    def __init__(
        self,
        src: Tensor,
        special: tuple[int, int, int],
        beam_size: int,
        length_penalty: float,
        num_results: int,
    ) -> None:
        batch, device = src.size(0), src.device
        start, self.end, self.pad = special
        self.length_penalty = length_penalty
        self.tokens = torch.full((batch, beam_size, 1), start, device=device)
        # All prefixes start alike: only the first may live, or each would go the same way.
        self.scores = torch.full((batch, beam_size), -torch.inf, device=device)
        self.scores[:, 0] = 0.0
        self.num_ended = torch.zeros(batch, dtype=torch.int64, device=device)
        self.best_tokens = torch.full((batch, num_results, 1), start, device=device)
        self.best_scores = torch.full((batch, num_results), -torch.inf, device=device)

    @property
    def alive(self) -> bool:
        return bool(self.scores.isfinite().any())

    @property
    def length(self) -> int:
        return self.tokens.size(2)

    @property
    def result(self) -> NBestResult:
        return NBestResult(self.best_tokens, self.best_scores)

    @property
    def newest(self) -> Tensor:
        return self.tokens[:, :, -1].flatten()

    def advance(self, logits: Tensor) -> Tensor:
        """Lengthen every prefix by one token; return the model row that each continues."""
        batch, beam_size = self.scores.shape
        logits = logits.unflatten(0, (batch, beam_size))
        logits = choosable(logits, self.scores.isfinite(), self.pad, self.length)
        candidates = self.scores[:, :, None] + logits.log_softmax(
            dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)
        )

        # The best beam_size of all are among the best without END and those with END.
        with_end = candidates[:, :, self.end].clone()
        candidates[:, :, self.end] = -torch.inf
        scores, index = candidates.flatten(1).topk(beam_size)
        last = torch.cat([with_end, scores], dim=1).topk(beam_size).values[:, -1:]
        self._end_prefixes(with_end.masked_fill(with_end < last, -torch.inf))

        parent, token = index // logits.size(-1), index % logits.size(-1)
        prefix = self.tokens.gather(1, parent[:, :, None].expand(-1, -1, self.length))
        self.tokens = torch.cat([prefix, token[:, :, None]], dim=2)
        is_better = (
            self._per_length(scores[:, :1], self.tokens) > self.best_scores[:, -1:]
        )
        is_done = (self.num_ended >= beam_size)[:, None] & ~is_better
        self.scores = scores.masked_fill(is_done, -torch.inf)
        first_row = torch.arange(batch, device=index.device)[:, None] * beam_size
        return (first_row + parent).flatten()

    def end_live_prefixes(self) -> None:
        """Let the prefixes still alive compete with the results that have ended."""
        self._remember(self.tokens, self.scores)

    def _end_prefixes(self, scores: Tensor) -> None:
        """Put END behind prefixes; `scores [batch, beam]` is -inf for those that go on."""
        self.num_ended += scores.isfinite().sum(dim=1)
        end = torch.full_like(self.tokens[:, :, :1], self.end)
        self._remember(torch.cat([self.tokens, end], dim=2), scores)

    def _remember(self, tokens: Tensor, scores: Tensor) -> None:
        """Keep those of `tokens [batch, beam, length]` that are among each row's best."""
        num_results = self.best_scores.size(1)
        scores = torch.cat([self.best_scores, self._per_length(scores, tokens)], dim=1)
        # Stable: of equally good results, the one that ended first stays.
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        order = order[:, :num_results]
        if (order >= num_results).any():
            room = tokens.size(2) - self.best_tokens.size(2)
            kept = F.pad(self.best_tokens, (0, room), value=self.pad)
            rows = torch.arange(len(order), device=order.device)[:, None]
            self.best_tokens = torch.cat([kept, tokens], dim=1)[rows, order]
            self.best_scores = scores[:, :num_results]

    def _per_length(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """Scores that compare results of unequal lengths: START does not count."""
        return scores / max(tokens.size(2) - 1, 1) ** self.length_penalty
