"""Checks for the exercises of chapter 7."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.attention import attention_weights
from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.sampling import Sampler
from transformer.tokens import END, FIRST_TASK_TOKEN, PAD, START


def _top_k(logits: Tensor, k: int) -> Tensor:
    return Sampler(top_k=k).probabilities(logits)


def _top_k_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    several = torch.randn(3, 7, generator=generator)
    return [
        (torch.tensor([[0.5, 0.25, 0.15, 0.06, 0.04]]).log(), 2),
        (several, 3),
        (several, 1),
        # Ties go to the lower id.
        (torch.tensor([[0.0, 2.0, 1.0, 2.0, 2.0], [-1.0, -1.0, -1.0, -1.0, -1.0]]), 2),
        (several, 11),
        (1_000 * several, 2),
    ]


def _tied(logits: Tensor, k: int) -> Tensor:
    ranked = logits.sort(dim=-1, descending=True).values
    limit = ranked[:, min(k, logits.size(-1)) - 1, None]
    return logits.masked_fill(logits < limit, float("-inf")).softmax(dim=-1)


def _ruled_out_by_k(logits: Tensor, k: int) -> Tensor:
    return _top_k(logits, k) == 0


def _strictly_larger(logits: Tensor, k: int) -> Tensor:
    ranked = logits.sort(dim=-1, descending=True).values
    limit = ranked[:, min(k, logits.size(-1)) - 1, None]
    return logits.masked_fill(logits <= limit, float("-inf")).softmax(dim=-1)


def _k_not_scaled(logits: Tensor, k: int) -> Tensor:
    return logits.softmax(dim=-1).masked_fill(_ruled_out_by_k(logits, k), 0.0)


def _logit_of_zero(logits: Tensor, k: int) -> Tensor:
    return logits.masked_fill(_ruled_out_by_k(logits, k), 0.0).softmax(dim=-1)


def _least_likely(logits: Tensor, k: int) -> Tensor:
    ids = logits.sort(dim=-1, stable=True).indices[:, :k]
    kept = torch.full_like(logits, float("-inf")).scatter(
        -1, ids, logits.gather(-1, ids)
    )
    return kept.softmax(dim=-1)


def _k_in_order_of_rank(logits: Tensor, k: int) -> Tensor:
    return _top_k(logits, k).sort(dim=-1, descending=True).values


def _only_k_of_them(logits: Tensor, k: int) -> Tensor:
    ranked = logits.sort(dim=-1, descending=True).values
    return ranked[:, :k].softmax(dim=-1)


def _limit_over_batch(logits: Tensor, k: int) -> Tensor:
    limit = logits.flatten().sort(descending=True).values[min(k, logits.numel()) - 1]
    return logits.masked_fill(logits < limit, float("-inf")).softmax(dim=-1)


check_top_k = SelfCheck(
    solution=_top_k,
    cases=_top_k_cases,
    mistakes=(
        Mistake(
            _tied,
            "With ties you keep more than k tokens. Choose by rank, not by size: "
            "`sort(descending=True, stable=True)` puts the lower id first.",
        ),
        Mistake(
            _strictly_larger, "The k-th token itself belongs to those that stay, too."
        ),
        Mistake(
            _k_not_scaled,
            "What is left does not sum to 1. Rule out logits before the softmax, or "
            "divide by the sum.",
        ),
        Mistake(
            _logit_of_zero,
            "A logit of 0 still has a chance, because e to the 0 is 1. Rule out with "
            "minus infinity.",
        ),
        Mistake(
            _least_likely, "You keep the least likely tokens: sort in descending order."
        ),
        Mistake(
            _k_in_order_of_rank,
            "Your probabilities stand in order of rank. Put each back at its token's id.",
        ),
        Mistake(
            _only_k_of_them,
            "The answer keeps one entry a token, `[batch, vocab]`: those ruled out get 0.",
        ),
        Mistake(
            _limit_over_batch,
            "You look for the k likeliest of the whole batch. Each row has its own.",
        ),
    ),
)


def _top_p(logits: Tensor, temperature: float, p: float) -> Tensor:
    return Sampler(temperature, top_p=p).probabilities(logits)


def _top_p_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    example = torch.tensor([[0.5, 0.25, 0.15, 0.06, 0.04]]).log()
    return [
        (example, 1.0, 0.8),
        (example.flip(1), 1.0, 0.8),
        # The likeliest token alone is more than p.
        (example, 1.0, 0.3),
        (example, 0.5, 0.85),
        (torch.randn(3, 7, generator=generator), 2.0, 0.65),
        # Ties go to the lower id: three of five equal tokens reach one half.
        (torch.zeros(1, 5), 1.0, 0.5),
    ]


def _ranked(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return (logits / temperature).softmax(dim=-1).sort(descending=True, stable=True)


def _scaled_back(ranked: Tensor, is_kept: Tensor, ids: Tensor) -> Tensor:
    kept = ranked * is_kept
    kept = kept / kept.sum(dim=-1, keepdim=True)
    return torch.empty_like(kept).scatter(-1, ids, kept)


def _crossing_dropped(logits: Tensor, temperature: float, p: float) -> Tensor:
    ranked, ids = _ranked(logits, temperature)
    return _scaled_back(ranked, ranked.cumsum(dim=-1) <= p, ids)


def _crossing_dropped_but_one(logits: Tensor, temperature: float, p: float) -> Tensor:
    ranked, ids = _ranked(logits, temperature)
    is_kept = ranked.cumsum(dim=-1) <= p
    is_kept[:, 0] = True
    return _scaled_back(ranked, is_kept, ids)


def _one_too_many(logits: Tensor, temperature: float, p: float) -> Tensor:
    ranked, ids = _ranked(logits, temperature)
    is_kept = ranked.cumsum(dim=-1).roll(2, dims=-1) < p
    is_kept[:, :2] = True
    return _scaled_back(ranked, is_kept, ids)


def _p_as_limit(logits: Tensor, temperature: float, p: float) -> Tensor:
    probabilities = (logits / temperature).softmax(dim=-1)
    kept = probabilities * (probabilities >= p)
    return kept / kept.sum(dim=-1, keepdim=True)


def _p_not_scaled(logits: Tensor, temperature: float, p: float) -> Tensor:
    probabilities = (logits / temperature).softmax(dim=-1)
    return probabilities * (_top_p(logits, temperature, p) > 0)


def _p_in_order_of_rank(logits: Tensor, temperature: float, p: float) -> Tensor:
    return _top_p(logits, temperature, p).sort(dim=-1, descending=True).values


def _not_sorted(logits: Tensor, temperature: float, p: float) -> Tensor:
    probabilities = (logits / temperature).softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = probabilities * (before < p)
    return kept / kept.sum(dim=-1, keepdim=True)


def _ascending(logits: Tensor, temperature: float, p: float) -> Tensor:
    ranked, ids = (logits / temperature).softmax(dim=-1).sort(stable=True)
    return _scaled_back(ranked, ranked.cumsum(dim=-1) - ranked < p, ids)


def _temperature_ignored(logits: Tensor, _temperature: float, p: float) -> Tensor:
    return _top_p(logits, 1.0, p)


def _temperature_turned(logits: Tensor, temperature: float, p: float) -> Tensor:
    return _top_p(logits, 1 / temperature, p)


def _temperature_last(logits: Tensor, temperature: float, p: float) -> Tensor:
    return (_top_p(logits, 1.0, p).log() / temperature).softmax(dim=-1)


def _ties_kept(logits: Tensor, temperature: float, p: float) -> Tensor:
    probabilities = (logits / temperature).softmax(dim=-1)
    kept = _top_p(logits, temperature, p) > 0
    limit = probabilities.masked_fill(~kept, 1.0).amin(dim=-1, keepdim=True)
    kept = probabilities * (probabilities >= limit)
    return kept / kept.sum(dim=-1, keepdim=True)


_CROSSING = (
    "The token that crosses p is dropped. It must stay: those before it do not reach p."
)

check_top_p = SelfCheck(
    solution=_top_p,
    cases=_top_p_cases,
    mistakes=(
        Mistake(_crossing_dropped, _CROSSING),
        Mistake(_crossing_dropped_but_one, _CROSSING),
        Mistake(
            _one_too_many,
            "One token too many stays. Stop at the one that brings the sum to p.",
        ),
        Mistake(
            _p_as_limit,
            "p is no limit for single tokens: it is what those that stay reach together.",
        ),
        Mistake(
            _p_not_scaled,
            "What is left does not sum to 1: divide by its sum.",
        ),
        Mistake(
            _p_in_order_of_rank,
            "Your probabilities stand in order of rank. Put each back at its token's id.",
        ),
        Mistake(
            _not_sorted,
            "You add up in the order of the ids. Sort by probability first.",
        ),
        Mistake(
            _ascending, "You keep the least likely tokens: sort in descending order."
        ),
        Mistake(_temperature_ignored, "The temperature is not used."),
        Mistake(
            _temperature_turned,
            "The temperature works the wrong way round: divide the logits by it.",
        ),
        Mistake(
            _temperature_last,
            "The temperature comes too late. Divide by it first, then see which tokens "
            "reach p.",
        ),
        Mistake(
            _ties_kept,
            "With ties you keep too many. Choose by rank, not by size: "
            "`sort(descending=True, stable=True)` puts the lower id first.",
        ),
    ),
)


@dataclass(frozen=True)
class CopyingToy:
    """Called like a model: it copies its source, then says END, then id 3 for ever.

    It does so only for targets that begin with START; to others it answers with id 4.
    """

    vocab_size: int = 9
    likes_pad: bool = False

    def __repr__(self) -> str:
        """What a reader sees in a hint."""
        liking = ", to which PAD looks likeliest" if self.likes_pad else ""
        return f"(a toy that copies{liking})"

    def __call__(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Source and target so far, ids → logits `[batch, tgt_len, vocab]`."""
        batch, length = tokens.shape
        answers = torch.full((batch, max(length, source.size(1)) + 1), FIRST_TASK_TOKEN)
        answers[:, : source.size(1)] = source
        num_symbols = (source != PAD).sum(dim=1)
        answers[answers == PAD] = FIRST_TASK_TOKEN
        answers[torch.arange(batch), num_symbols] = END
        answers[tokens[:, 0] != START] = FIRST_TASK_TOKEN + 1
        logits = torch.zeros(batch, length, self.vocab_size)
        logits.scatter_(2, answers[:, :length, None], 5.0)
        logits[:, :, PAD] = 9.0 if self.likes_pad else -9.0
        return logits


def _write(
    model: Callable,
    source: Tensor,
    max_len: int,
    choose: Callable[[Tensor], Tensor] = lambda logits: logits[:, -1].argmax(dim=-1),
    first: int = START,
    fill: bool = True,
    stop: Callable[[Tensor], Tensor] = torch.all,
    newest_only: bool = False,
) -> Tensor:
    """Greedy decoding, with a place for each mistake."""
    tokens = torch.full((source.size(0), 1), first)
    ended = torch.zeros(source.size(0), dtype=torch.bool)
    while tokens.size(1) < max_len and not stop(ended):
        logits = model(source, tokens[:, -1:] if newest_only else tokens).clone()
        logits[:, :, PAD] = float("-inf")
        chosen = choose(logits)
        if fill:
            chosen = chosen.masked_fill(ended, PAD)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        ended |= chosen == END
    return tokens


def _greedy(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len)


def _greedy_cases() -> list[tuple]:
    source = torch.tensor([[5, 6, 7], [8, PAD, PAD], [PAD, PAD, PAD], [4, 7, PAD]])
    return [
        (CopyingToy(), source[:1], 8),
        (CopyingToy(), source, 11),
        (CopyingToy(), source, 4),
        (CopyingToy(), source[1:2], 1),
        (CopyingToy(likes_pad=True), source, 5),
    ]


def _begins_with_pad(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, first=PAD)


def _begins_with_end(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, first=END)


def _start_cut_off(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _greedy(model, source, max_len)[:, 1:]


def _never_stops(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, fill=False, stop=lambda _: False)


def _pads_to_max_len(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, stop=lambda _: False)


def _first_row_stops_all(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, stop=torch.any)


def _writes_on_after_end(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, fill=False)


def _start_not_counted(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _greedy(model, source, max_len + 1)


def _over_positions(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(
        model, source, max_len, choose=lambda logits: logits.argmax(dim=1)[:, -1]
    )


def _first_prediction(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(
        model, source, max_len, choose=lambda logits: logits[:, 0].argmax(dim=-1)
    )


def _newest_token_only(model: Callable, source: Tensor, max_len: int) -> Tensor:
    return _write(model, source, max_len, newest_only=True)


def _may_choose_pad(model: Callable, source: Tensor, max_len: int) -> Tensor:
    tokens = torch.full((source.size(0), 1), START)
    ended = torch.zeros(source.size(0), dtype=torch.bool)
    while tokens.size(1) < max_len and not ended.all():
        chosen = model(source, tokens)[:, -1].argmax(dim=-1).masked_fill(ended, PAD)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        ended |= chosen == END
    return tokens


check_greedy = SelfCheck(
    solution=_greedy,
    cases=_greedy_cases,
    mistakes=(
        Mistake(
            _begins_with_pad, "Every row must begin with START: yours begin with 0."
        ),
        Mistake(
            _begins_with_end, "Every row must begin with START: yours begin with END."
        ),
        Mistake(_start_cut_off, "START belongs to the answer: do not cut it off."),
        Mistake(_never_stops, "You never stop at END. Stop when every row has ended."),
        Mistake(
            _pads_to_max_len,
            "You always write up to `max_len`. Stop when every row has ended.",
        ),
        Mistake(
            _first_row_stops_all,
            "You stop when the first row has ended. The others are not done yet.",
        ),
        Mistake(
            _writes_on_after_end,
            "A row that has ended goes on writing. Fill it with PAD.",
        ),
        Mistake(
            _start_not_counted, "`max_len` counts START: yours is one token longer."
        ),
        Mistake(
            _over_positions,
            "Your argmax runs over the positions. It must run over the vocabulary, the "
            "last dimension.",
        ),
        Mistake(
            _first_prediction,
            "You read the prediction at the first position. The last one is new.",
        ),
        Mistake(
            _newest_token_only,
            "Feed the whole prefix: without a cache the model remembers nothing.",
        ),
        Mistake(
            _may_choose_pad,
            "PAD must never be chosen: give it minus infinity before the argmax.",
        ),
    ),
)


def _score(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    is_token = tokens != PAD
    return log_probs.where(is_token, 0.0).sum(dim=1) / is_token.sum(dim=1) ** alpha


def _score_cases() -> list[tuple]:
    log_probs = torch.tensor(
        [
            [-0.1, -0.7, -0.2, -1.3, -0.4],
            [-0.5, -0.3, -2.0, -0.9, -3.0],
            [-0.8, -1.1, -0.6, -5.0, -0.2],
        ]
    )
    tokens = torch.tensor(
        [[5, 3, 7, 4, 6], [6, 8, END, PAD, PAD], [END, PAD, PAD, PAD, PAD]]
    )
    cases = [(log_probs, tokens, alpha) for alpha in (1.0, 0.6, 0.0)]
    # A decoder that never chooses PAD gives it probability 0.
    impossible = log_probs.masked_fill(tokens == PAD, float("-inf"))
    return [*cases, (impossible, tokens, 1.0)]


def _length(tokens: Tensor) -> Tensor:
    return (tokens != PAD).sum(dim=1)


def _total(log_probs: Tensor, tokens: Tensor) -> Tensor:
    return log_probs.where(tokens != PAD, 0.0).sum(dim=1)


def _pad_in_both(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return log_probs.sum(dim=1) / tokens.size(1) ** alpha


def _pad_in_length(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return _total(log_probs, tokens) / tokens.size(1) ** alpha


def _pad_in_sum(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return log_probs.sum(dim=1) / _length(tokens) ** alpha


def _times_zero(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return (log_probs * (tokens != PAD)).sum(dim=1) / _length(tokens) ** alpha


def _end_not_in_length(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    length = _length(tokens) - (tokens == END).sum(dim=1)
    return _total(log_probs, tokens) / length**alpha


def _end_not_in_sum(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return _total(log_probs * (tokens != END), tokens) / _length(tokens) ** alpha


def _without_end(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    length = _length(tokens) - (tokens == END).sum(dim=1)
    return _total(log_probs * (tokens != END), tokens) / length**alpha


def _start_in_length(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return _total(log_probs, tokens) / (_length(tokens) + 1) ** alpha


def _alpha_ignored(log_probs: Tensor, tokens: Tensor, _alpha: float) -> Tensor:
    return _score(log_probs, tokens, 1.0)


def _not_normalised(log_probs: Tensor, tokens: Tensor, _alpha: float) -> Tensor:
    return _total(log_probs, tokens)


def _alpha_as_factor(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return _total(log_probs, tokens) / (alpha * _length(tokens))


def _multiplied(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return _total(log_probs, tokens) * _length(tokens) ** alpha


def _other_formula(log_probs: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    return _total(log_probs, tokens) / ((5 + _length(tokens)) / 6) ** alpha


check_score = SelfCheck(
    solution=_score,
    cases=_score_cases,
    mistakes=(
        Mistake(
            _pad_in_both,
            "PAD is counted, in the sum and in the length. It belongs to neither.",
        ),
        Mistake(_pad_in_length, "PAD is counted in the length."),
        Mistake(
            _pad_in_sum, "The log-probabilities at PAD are in the sum: leave them out."
        ),
        Mistake(
            _times_zero,
            "0 times minus infinity is NaN, and PAD may have log-probability minus "
            "infinity. Use `where` instead of a product.",
        ),
        Mistake(_end_not_in_length, "END is a token, too: count it in the length."),
        Mistake(
            _end_not_in_sum, "END is a token, too: its log-probability is missing."
        ),
        Mistake(
            _without_end,
            "You leave END out. It is a token like the others, and to stop costs "
            "probability, too.",
        ),
        Mistake(_start_in_length, "START is given, not written: do not count it."),
        Mistake(_alpha_ignored, "`alpha` is not used: raise the length to it."),
        Mistake(
            _not_normalised,
            "You compare plain sums. Divide by the length, raised to `alpha`.",
        ),
        Mistake(
            _alpha_as_factor, "`alpha` is an exponent of the length, not a factor."
        ),
        Mistake(_multiplied, "Divide by the power of the length, do not multiply."),
        Mistake(
            _other_formula,
            "That is the formula of Wu et al. Here, divide by the length itself, raised "
            "to `alpha`.",
        ),
    ),
)


def _attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return attention_weights(query, keys) @ values


def _append(past: Tensor, newest: Tensor) -> Tensor:
    return torch.cat([past, newest], dim=-2)


#: The output of a step, and the keys and values with the new position.
_Step = tuple[Tensor, Tensor, Tensor]


def _cached_step(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> _Step:
    keys, values = _append(past_keys, key), _append(past_values, value)
    return _attend(query, keys, values), keys, values


def _cached_step_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    batch, heads, d_head = 2, 3, 5

    def vectors(length: int) -> Tensor:
        return torch.randn(batch, heads, length, d_head, generator=generator)

    # The first step finds the cache empty.
    return [
        (vectors(1), vectors(1), vectors(1), vectors(length), vectors(length))
        for length in (0, 1, 4, 7)
    ]


def _not_appended(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> _Step:
    keys, values = _append(past_keys, key), _append(past_values, value)
    return _attend(query, keys, values), past_keys, past_values


def _new_key_forgotten(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> _Step:
    keys, values = _append(past_keys, key), _append(past_values, value)
    return _attend(query, past_keys, past_values), keys, values


def _new_key_never_kept(
    query: Tensor, _key: Tensor, _value: Tensor, past_keys: Tensor, past_values: Tensor
) -> _Step:
    return _attend(query, past_keys, past_values), past_keys, past_values


def _past_forgotten(
    query: Tensor, key: Tensor, value: Tensor, _keys: Tensor, _values: Tensor
) -> _Step:
    return _attend(query, key, value), key, value


def _newest_first(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> _Step:
    keys, values = _append(key, past_keys), _append(value, past_values)
    return _attend(query, keys, values), keys, values


def _mask_of_one_row(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> _Step:
    keys, values = _append(past_keys, key), _append(past_values, value)
    first_alone = torch.ones(1, keys.size(-2), dtype=torch.bool).tril()
    return attention_weights(query, keys, first_alone) @ values, keys, values


def _weighed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_keys: Tensor,
    past_values: Tensor,
    weigh: Callable[[Tensor], Tensor],
) -> _Step:
    keys, values = _append(past_keys, key), _append(past_values, value)
    return weigh(query @ keys.transpose(-2, -1)) @ values, keys, values


def _not_scaled_by_root(*arguments: Tensor) -> _Step:
    return _weighed(*arguments, lambda products: products.softmax(dim=-1))


def _scaled_without_root(*arguments: Tensor) -> _Step:
    d_head = arguments[0].size(-1)
    return _weighed(*arguments, lambda products: (products / d_head).softmax(dim=-1))


def _scaled_by_d_model(*arguments: Tensor) -> _Step:
    root = (arguments[0].size(1) * arguments[0].size(-1)) ** 0.5
    return _weighed(*arguments, lambda products: (products / root).softmax(dim=-1))


def _scaled_by_length(*arguments: Tensor) -> _Step:
    root = (arguments[3].size(-2) + 1) ** 0.5
    return _weighed(*arguments, lambda products: (products / root).softmax(dim=-1))


def _softmax_over_queries(*arguments: Tensor) -> _Step:
    root = arguments[0].size(-1) ** 0.5
    return _weighed(*arguments, lambda products: (products / root).softmax(dim=-2))


def _no_softmax(*arguments: Tensor) -> _Step:
    root = arguments[0].size(-1) ** 0.5
    return _weighed(*arguments, lambda products: products / root)


def _output_alone(*arguments: Tensor) -> Tensor:
    return _cached_step(*arguments)[0]


check_cached_step = SelfCheck(
    solution=_cached_step,
    cases=_cached_step_cases,
    mistakes=(
        Mistake(
            _not_appended,
            "You attend to the new position, but hand back the cache without it. The "
            "next step needs it: return what you have appended to.",
        ),
        Mistake(
            _new_key_forgotten,
            "You attend before you append, so the new position does not see itself. "
            "Append its key and value first.",
        ),
        Mistake(
            _new_key_never_kept,
            "The key and value of the new position are not used. Append them to the "
            "cache, then attend.",
        ),
        Mistake(
            _past_forgotten,
            "The new position sees itself alone. Append its key and value to those of "
            "the past.",
        ),
        Mistake(
            _newest_first,
            "You put the newest position first. Append it at the end, in the order of "
            "writing.",
        ),
        Mistake(
            _mask_of_one_row,
            "The causal mask of a single query lets it see the first key alone. Here "
            "no mask is needed: the cache holds nothing of the future.",
        ),
        Mistake(
            _not_scaled_by_root,
            "The products are not scaled: divide them by the root of d_head.",
        ),
        Mistake(
            _scaled_without_root,
            "You divide by d_head. Divide by its square root.",
        ),
        Mistake(
            _scaled_by_d_model,
            "You scale by the width of all heads together. Each head divides by the "
            "root of its own d_head.",
        ),
        Mistake(
            _scaled_by_length,
            "You scale by the number of keys. Divide by the root of d_head.",
        ),
        Mistake(
            _softmax_over_queries,
            "Your softmax runs over the queries: with a single one, every weight is 1. "
            "It must run over the keys, the last dimension.",
        ),
        Mistake(
            _no_softmax,
            "The softmax is missing: the weights of a query must sum to 1.",
        ),
        Mistake(
            _output_alone,
            "Return three things: the output, and the keys and values with the new "
            "position appended.",
        ),
    ),
)
