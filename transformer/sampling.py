"""Drawing the next token at random: temperature, top-k and top-p."""

import torch
from torch import Tensor

from transformer.checks import check_number, check_positive_int


def filter_logits(
    logits: Tensor, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Set to -inf every logit that `top_k` or `top_p` rules out.

    `top_k` keeps the k likeliest tokens (all of them, if k exceeds the vocabulary).
    `top_p` keeps the fewest likeliest tokens whose probabilities, among those that
    `top_k` left, add up to at least p, to within 1e-5; the likeliest token always stays.
    Ties go to the lower id. Probabilities are computed in float32 at least, whatever type
    the logits have.

    Args:
        logits: `[batch, vocab]`.

    Returns:
        `[batch, vocab]`.
    """
    ranked, ids = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ranked[:, top_k:] = -torch.inf
    if top_p is not None and top_p < 1:
        probabilities = ranked.softmax(
            dim=-1, dtype=torch.promote_types(ranked.dtype, torch.float32)
        )
        reached_before = probabilities.cumsum(dim=-1) - probabilities
        # 0.5 + 0.3 falls short of 0.8 by rounding: such sums are off by about 1e-6 in
        # float32, from the logits' own last digits (times the entropy) and from adding up.
        ruled_out = reached_before >= top_p - 1e-5
        ruled_out[:, 0] = False
        ranked = ranked.masked_fill(ruled_out, -torch.inf)
    return torch.empty_like(logits).scatter(-1, ids, ranked)


class Sampler:
    """Random choice: draw the next token after temperature, top-k and top-p."""

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """See `Transformer.generate` for the meaning of the values."""
        check_number("temperature", temperature)
        if temperature <= 0:
            raise ValueError(
                f"temperature must be above 0, got {temperature}: "
                "for the likeliest token use greedy_decode or top_k=1"
            )
        if top_k is not None:
            check_positive_int("top_k", top_k)
        if top_p is not None:
            check_number("top_p", top_p)
            if not 0 < top_p <= 1:
                raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.generator = generator

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution to draw from: logits `[batch, vocab]` → `[batch, vocab]`.

        It is computed in float32 at least: numbers of 16 bits would give tokens that are
        ruled out a chance, and blur the likelier ones.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # The largest logit becomes 0 first, so that no temperature overflows to NaN.
        logits = logits - logits.amax(dim=-1, keepdim=True)
        logits = logits / max(self.temperature, torch.finfo(logits.dtype).tiny)
        if self.top_k is not None or self.top_p is not None:
            logits = filter_logits(logits, self.top_k, self.top_p)
        return logits.softmax(dim=-1)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits `[batch, vocab]` → ids `[batch]`."""
        probabilities = self.probabilities(logits)
        return probabilities.multinomial(1, generator=self.generator)[:, 0]
