"""Checks for the exercises of companion A."""

import math
from collections import Counter

import torch
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck


def _lead(num_keys: int, weight: float) -> float:
    return math.log(num_keys - 1) + _odds(weight)


def _odds(weight: float) -> float:
    return math.log(weight / (1 - weight))


def _lead_cases() -> list[tuple]:
    return [(2, 0.9), (10, 0.99), (1_000, 0.5), (5, 0.2), (4, 0.1)]


def _own_key_counted(num_keys: int, weight: float) -> float:
    return math.log(num_keys) + _odds(weight)


def _length_forgotten(_num_keys: int, weight: float) -> float:
    return _odds(weight)


def _to_the_others(num_keys: int, weight: float) -> float:
    return -_lead(num_keys, weight)


def _rest_not_in_odds(num_keys: int, weight: float) -> float:
    return math.log((num_keys - 1) * weight)


def _decimal(num_keys: int, weight: float) -> float:
    return _lead(num_keys, weight) / math.log(10)


def _binary(num_keys: int, weight: float) -> float:
    return _lead(num_keys, weight) / math.log(2)


def _no_logarithm(num_keys: int, weight: float) -> float:
    return (num_keys - 1) * weight / (1 - weight)


check_lead = SelfCheck(
    solution=_lead,
    cases=_lead_cases,
    mistakes=(
        Mistake(
            _own_key_counted,
            "The lead is a little too large: the leading key does not compete with "
            "itself, so there are `num_keys - 1` others.",
        ),
        Mistake(
            _length_forgotten,
            "That is the lead over a single other key. All others together weigh "
            "`num_keys - 1` times as much.",
        ),
        Mistake(
            _to_the_others,
            "The sign is turned round: a weight above 1 / num_keys needs a positive lead.",
        ),
        Mistake(
            _rest_not_in_odds,
            "The others share what is left, `1 - weight`, so divide by it.",
        ),
        Mistake(
            _decimal,
            "The softmax takes powers of e, so the natural logarithm undoes it: "
            "`math.log`, not `math.log10`.",
        ),
        Mistake(
            _binary,
            "The softmax takes powers of e, so the natural logarithm undoes it: "
            "`math.log`, not `math.log2`.",
        ),
        Mistake(
            _no_logarithm,
            "That is e to the lead. Take its logarithm.",
        ),
    ),
)


def _same_shares(first: list[str], second: list[str]) -> bool:
    one, other = Counter(first), Counter(second)
    # Shares are compared as whole numbers, so that nothing is rounded.
    return {token: count * len(second) for token, count in one.items()} == {
        token: count * len(first) for token, count in other.items()
    }


def _same_shares_cases() -> list[tuple]:
    pairs = [
        ("ab", "ba"),
        ("abb", "babbab"),
        ("aab", "abb"),
        ("a", "aaaa"),
        ("abc", "aabbc"),
        ("ab", "abc"),
        ("aaabbb", "ab"),
        ("abab", "cdcd"),
        ("aabb", "abbb"),
    ]
    return [(list(first), list(second)) for first, second in pairs]


def _same_order(first: list[str], second: list[str]) -> bool:
    return first == second


def _same_counts(first: list[str], second: list[str]) -> bool:
    return sorted(first) == sorted(second)


def _same_kinds(first: list[str], second: list[str]) -> bool:
    return set(first) == set(second)


def _same_length(first: list[str], second: list[str]) -> bool:
    return len(first) == len(second)


def _same_proportions(first: list[str], second: list[str]) -> bool:
    return sorted(n / len(first) for n in Counter(first).values()) == sorted(
        n / len(second) for n in Counter(second).values()
    )


def _differ(first: list[str], second: list[str]) -> bool:
    return not _same_shares(first, second)


check_same_shares = SelfCheck(
    solution=_same_shares,
    cases=_same_shares_cases,
    mistakes=(
        Mistake(
            _same_order,
            "Without positions, order is invisible: a shuffled list gives the same output.",
        ),
        Mistake(
            _same_counts,
            "A list written twice has other counts but the same average: compare shares, "
            "not counts.",
        ),
        Mistake(
            _same_kinds,
            "Which tokens occur is not enough: a token that occurs more often, relative "
            "to the others, has more weight.",
        ),
        Mistake(
            _same_length,
            "The length alone decides nothing, neither way: a list written twice takes "
            "home the same, and two lists of one length may hold other tokens.",
        ),
        Mistake(
            _same_proportions,
            "The shares agree, but they belong to other tokens: keep token and share "
            "together.",
        ),
        Mistake(
            _differ,
            "Turned round: return True if the outputs must be the same.",
        ),
    ),
)


def _softmax_gradient(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * (gradient - (weights * gradient).sum(dim=-1, keepdim=True))


def _softmax_gradient_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def drawn(queries: int, keys: int, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        scores, gradient = torch.randn(2, queries, keys, generator=generator)
        return (factor * scores).softmax(dim=-1), gradient

    toy = (torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[4.0, 0.0, 8.0]]))
    # As many queries as keys: a sum over the wrong one has the right shape.
    return [toy, drawn(2, 7), drawn(5, 5), drawn(3, 4, factor=9.0)]


def _diagonal_alone(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * (1 - weights) * gradient


def _weights_times_gradient(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * gradient


def _mean_not_weighted(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * (gradient - gradient.mean(dim=-1, keepdim=True))


def _mean_added(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * (gradient + (weights * gradient).sum(dim=-1, keepdim=True))


def _not_multiplied(weights: Tensor, gradient: Tensor) -> Tensor:
    return gradient - (weights * gradient).sum(dim=-1, keepdim=True)


def _over_queries(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * (gradient - (weights * gradient).sum(dim=0, keepdim=True))


def _over_all(weights: Tensor, gradient: Tensor) -> Tensor:
    return weights * (gradient - (weights * gradient).sum())


check_softmax_gradient = SelfCheck(
    solution=_softmax_gradient,
    cases=_softmax_gradient_cases,
    mistakes=(
        Mistake(
            _diagonal_alone,
            "You use the diagonal of the Jacobian alone. Each score moves the other "
            "weights of its row, too.",
        ),
        Mistake(
            _weights_times_gradient,
            "That is the part with diag(w). The part with w wᵀ is to be subtracted: each "
            "weight times a sum over the row.",
        ),
        Mistake(
            _mean_not_weighted,
            "The mean that is subtracted must be weighted: sum weights times gradient.",
        ),
        Mistake(
            _mean_added,
            "The part with w wᵀ has a minus before it: a raised score takes weight from "
            "the others.",
        ),
        Mistake(
            _not_multiplied,
            "The difference must still be multiplied by the weights: the first part is "
            "diag(w), not the identity.",
        ),
        Mistake(
            _over_queries,
            "The sum runs over the queries. A softmax works on one row: `dim=-1`.",
        ),
        Mistake(
            _over_all,
            "The sum runs over all rows. A softmax works on one row: `dim=-1`, with "
            "`keepdim=True`.",
        ),
    ),
)


def _document_mask(documents: Tensor) -> Tensor:
    return _same_document(documents) & _not_later(documents) & (documents != 0)


def _same_document(documents: Tensor) -> Tensor:
    return documents[:, None] == documents


def _not_later(documents: Tensor) -> Tensor:
    return torch.ones(len(documents), len(documents), dtype=torch.bool).tril()


def _document_mask_cases() -> list[tuple]:
    rows = [[1, 1, 2, 2, 2, 0], [1, 2, 3], [4, 4, 4, 4], [7, 7, 0, 0, 0], [2, 2, 1, 1]]
    return [(torch.tensor(row),) for row in rows]


def _not_causal(documents: Tensor) -> Tensor:
    return _same_document(documents) & (documents != 0)


def _one_document(documents: Tensor) -> Tensor:
    return _not_later(documents) & (documents != 0)


def _pad_seen(documents: Tensor) -> Tensor:
    return _same_document(documents) & _not_later(documents)


def _forbidden(documents: Tensor) -> Tensor:
    return ~_document_mask(documents)


def _transposed(documents: Tensor) -> Tensor:
    return _document_mask(documents).T


def _not_oneself(documents: Tensor) -> Tensor:
    return _document_mask(documents).tril(diagonal=-1)


def _any_of_the_three(documents: Tensor) -> Tensor:
    return _same_document(documents) | _not_later(documents)


def _earlier_documents(documents: Tensor) -> Tensor:
    not_later = documents[:, None] >= documents
    return not_later & _not_later(documents) & (documents != 0)


check_document_mask = SelfCheck(
    solution=_document_mask,
    cases=_document_mask_cases,
    mistakes=(
        Mistake(
            _not_causal,
            "Positions see later ones of their document. A decoder also needs "
            "`there <= here`.",
        ),
        Mistake(
            _one_document,
            "The documents see each other. Compare the number of the row's document "
            "with that of the column's.",
        ),
        Mistake(
            _pad_seen,
            "PAD looks at PAD, since both have the number 0. Hide every column that is "
            "PAD.",
        ),
        Mistake(
            _forbidden,
            "Turned round: True means that a position may look.",
        ),
        Mistake(
            _transposed,
            "Rows and columns are exchanged: a row looks, a column is looked at.",
        ),
        Mistake(
            _not_oneself,
            "Nobody sees itself, and the first position of each document has nothing to "
            "look at: `<=` instead of `<`.",
        ),
        Mistake(
            _any_of_the_three,
            "`|` allows what one condition allows. All must hold: join them with `&`.",
        ),
        Mistake(
            _earlier_documents,
            "Later documents see earlier ones. The two numbers must be equal.",
        ),
    ),
)


def _reach(mask: Tensor, num_layers: int) -> Tensor:
    oneself = torch.eye(len(mask), dtype=torch.bool)
    return _chained(mask | oneself, oneself, num_layers)


def _chained(step: Tensor, heard: Tensor, num_layers: int) -> Tensor:
    for _ in range(num_layers):
        heard = (step.double() @ heard.double()) > 0
    return heard


def _reach_cases() -> list[tuple]:
    def mask(*rows: str) -> Tensor:
        return torch.tensor([[entry == "x" for entry in row] for row in rows])

    previous = mask(".....", "x....", ".x...", "..x..", "...x.")
    window = mask("x....", "xx...", ".xx..", "..xx.", "...xx")
    lopsided = mask("xx..", "..x.", "...x", "....")
    return [(window, 2), (previous, 3), (lopsided, 2), (lopsided, 1), (window, 0)]


def _without_residual(mask: Tensor, num_layers: int) -> Tensor:
    return _chained(mask, torch.eye(len(mask), dtype=torch.bool), num_layers)


def _one_layer(mask: Tensor, _num_layers: int) -> Tensor:
    return _reach(mask, 1)


def _one_layer_more(mask: Tensor, num_layers: int) -> Tensor:
    return _reach(mask, num_layers + 1)


def _one_layer_less(mask: Tensor, num_layers: int) -> Tensor:
    return _reach(mask, max(num_layers - 1, 0))


def _reach_transposed(mask: Tensor, num_layers: int) -> Tensor:
    return _reach(mask, num_layers).T


def _entry_by_entry(mask: Tensor, num_layers: int) -> Tensor:
    step = mask | torch.eye(len(mask), dtype=torch.bool)
    return step.double().pow(num_layers) > 0


def _ways(mask: Tensor, num_layers: int) -> Tensor:
    step = mask | torch.eye(len(mask), dtype=torch.bool)
    return torch.linalg.matrix_power(step.double(), num_layers)


check_reach = SelfCheck(
    solution=_reach,
    cases=_reach_cases,
    mistakes=(
        Mistake(
            _without_residual,
            "A position forgets itself where the mask hides it. The residual connection "
            "keeps it: add the diagonal to the mask.",
        ),
        Mistake(
            _one_layer,
            "That is one layer. Neighbours have heard of their neighbours: multiply the "
            "table once for each layer.",
        ),
        Mistake(
            _one_layer_more,
            "One layer too many: after 0 layers everybody knows only itself.",
        ),
        Mistake(
            _one_layer_less,
            "One layer too few: after 1 layer everybody has heard of all whom the mask "
            "allows.",
        ),
        Mistake(
            _reach_transposed,
            "Rows and columns are exchanged: a row hears, a column is heard.",
        ),
        Mistake(
            _entry_by_entry,
            "The power is taken of each entry. Take it of the matrix: `@`, or "
            "`torch.linalg.matrix_power`.",
        ),
        Mistake(
            _ways,
            "These are the numbers of ways. Ask which of them are above 0.",
        ),
    ),
)

Triple = tuple[Tensor, Tensor, Tensor]


def _merge(first: Triple, second: Triple) -> Triple:
    (top_1, total_1, mixed_1), (top_2, total_2, mixed_2) = first, second
    top = torch.maximum(top_1, top_2)
    shrink_1, shrink_2 = (top_1 - top).exp(), (top_2 - top).exp()
    return (
        top,
        shrink_1 * total_1 + shrink_2 * total_2,
        shrink_1 * mixed_1 + shrink_2 * mixed_2,
    )


def _merge_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def half(scores: Tensor, width: int) -> Triple:
        values = torch.randn(scores.size(1), width, generator=generator)
        top = scores.amax(dim=1, keepdim=True)
        powers = (scores - top).exp()
        return top, powers.sum(dim=1, keepdim=True), powers @ values

    def drawn(queries: int, keys: int, factor: float = 1.0) -> Tensor:
        return factor * torch.randn(queries, keys, generator=generator)

    return [
        (half(torch.tensor([[1.0, 3.0]]), 1), half(torch.tensor([[2.0, 2.0]]), 1)),
        (half(drawn(3, 5), 2), half(drawn(3, 2), 2)),
        # Large scores: their powers alone would be infinite, or zero.
        (half(drawn(5, 4, 2_000.0), 3), half(drawn(5, 7, 2_000.0), 3)),
        (half(drawn(2, 3) - 900, 2), half(drawn(2, 3) - 901, 2)),
    ]


def _added(first: Triple, second: Triple) -> Triple:
    return (
        torch.maximum(first[0], second[0]),
        first[1] + second[1],
        first[2] + second[2],
    )


def _total_not_shrunk(first: Triple, second: Triple) -> Triple:
    top, _, mixed = _merge(first, second)
    return top, first[1] + second[1], mixed


def _mixed_not_shrunk(first: Triple, second: Triple) -> Triple:
    top, total, _ = _merge(first, second)
    return top, total, first[2] + second[2]


def _without_maximum(first: Triple, second: Triple) -> Triple:
    (top_1, total_1, mixed_1), (top_2, total_2, mixed_2) = first, second
    top = torch.maximum(top_1, top_2)
    total = (top_1.exp() * total_1 + top_2.exp() * total_2) / top.exp()
    return top, total, (top_1.exp() * mixed_1 + top_2.exp() * mixed_2) / top.exp()


def _already_divided(first: Triple, second: Triple) -> Triple:
    top, total, mixed = _merge(first, second)
    return top, total, mixed / total


def _output_alone(first: Triple, second: Triple) -> Tensor:
    _, total, mixed = _merge(first, second)
    return mixed / total


def _grown(first: Triple, second: Triple) -> Triple:
    (top_1, total_1, mixed_1), (top_2, total_2, mixed_2) = first, second
    top = torch.maximum(top_1, top_2)
    grow_1, grow_2 = (top - top_1).exp(), (top - top_2).exp()
    return (
        top,
        grow_1 * total_1 + grow_2 * total_2,
        grow_1 * mixed_1 + grow_2 * mixed_2,
    )


def _second_shrunk_alone(first: Triple, second: Triple) -> Triple:
    (top_1, total_1, mixed_1), (top_2, total_2, mixed_2) = first, second
    shrink = (top_2 - top_1).exp()
    return (
        torch.maximum(top_1, top_2),
        total_1 + shrink * total_2,
        mixed_1 + shrink * mixed_2,
    )


check_merge = SelfCheck(
    solution=_merge,
    cases=_merge_cases,
    mistakes=(
        Mistake(
            _added,
            "The sums of both halves are taken relative to different maxima. Bring each "
            "to the common one before you add.",
        ),
        Mistake(
            _total_not_shrunk,
            "`mixed` is right, but `total` is not: it was taken relative to the old "
            "maximum, too, so multiply it by the same factor.",
        ),
        Mistake(
            _mixed_not_shrunk,
            "`total` is right, but `mixed` is not: it was taken relative to the old "
            "maximum, too, so multiply it by the same factor.",
        ),
        Mistake(
            _without_maximum,
            "`exp` of a maximum is infinite or zero when scores are large. Take `exp` of "
            "differences of maxima only, which are at most 0.",
        ),
        Mistake(
            _already_divided,
            "`mixed` is divided by `total` already. Leave it as a sum, so that it can be "
            "merged again.",
        ),
        Mistake(
            _output_alone,
            "That is the output of attention. Return the three: maximum, sum of powers, "
            "sum of powers times values.",
        ),
        Mistake(
            _grown,
            "The factor is turned round: sums relative to a smaller maximum are too "
            "large, so multiply by `exp(old - new)`.",
        ),
        Mistake(
            _second_shrunk_alone,
            "You count on the first half to hold the maximum. If the second does, the "
            "first must shrink.",
        ),
    ),
)


def _crossover(d_model: int, d_ff: int) -> float:
    return max(0.0, d_ff / 2 - 2 * d_model)


def _crossover_cases() -> list[tuple]:
    return [(512, 4096), (64, 256), (128, 1024), (100, 150), (96, 1001)]


def _one_attention(d_model: int, d_ff: int) -> float:
    return max(0.0, float(d_ff - 2 * d_model))


def _products_alone(_d_model: int, d_ff: int) -> float:
    return d_ff / 2


def _below_zero(d_model: int, d_ff: int) -> float:
    return d_ff / 2 - 2 * d_model


def _seven_projections(d_model: int, d_ff: int) -> float:
    return max(0.0, d_ff / 2 - 7 / 4 * d_model)


def _three_projections(d_model: int, d_ff: int) -> float:
    return max(0.0, d_ff / 2 - 3 / 2 * d_model)


def _causal_half(d_model: int, d_ff: int) -> float:
    return max(0.0, (4 * d_ff - 16 * d_model) / 6)


def _scores_alone(d_model: int, d_ff: int) -> float:
    return max(0.0, float(d_ff - 4 * d_model))


def _rounded_down(d_model: int, d_ff: int) -> float:
    return float(max(0, d_ff // 2 - 2 * d_model))


check_crossover = SelfCheck(
    solution=_crossover,
    cases=_crossover_cases,
    mistakes=(
        Mistake(
            _one_attention,
            "That is the crossover of an encoder layer. A decoder layer has two "
            "attentions.",
        ),
        Mistake(
            _products_alone,
            "The projections are missing: four for each attention, of d_model times "
            "d_model.",
        ),
        Mistake(
            _below_zero,
            "A length cannot be negative: return 0.0 if the attentions always cost more.",
        ),
        Mistake(
            _seven_projections,
            "One projection is missing. Cross-attention projects queries, keys, values "
            "and its output, too.",
        ),
        Mistake(
            _three_projections,
            "Each attention has a fourth projection, that of its output.",
        ),
        Mistake(
            _causal_half,
            "You leave out the hidden half of the causal products. Count all: they are "
            "computed, and then hidden.",
        ),
        Mistake(
            _scores_alone,
            "Each attention has two products of n times n: the scores and the weighted "
            "sum.",
        ),
        Mistake(
            _rounded_down,
            "The crossover may lie between two lengths: divide with `/`, not with `//`.",
        ),
    ),
)


def _goes_to(position: int, last: int) -> int:
    num_even = last // 2 + 1
    return position // 2 if position % 2 == 0 else num_even + position // 2


def _goes_to_cases() -> list[tuple]:
    return [(position, last) for last in range(8) for position in range(last + 1)]


def _odd_first(position: int, last: int) -> int:
    num_odd = (last + 1) // 2
    return position // 2 if position % 2 else num_odd + position // 2


def _one_even_too_few(position: int, last: int) -> int:
    return position // 2 if position % 2 == 0 else (last + 1) // 2 + position // 2


def _comes_from(position: int, last: int) -> int:
    order = [*range(0, last + 1, 2), *range(1, last + 1, 2)]
    return order[position]


def _backwards(position: int, last: int) -> int:
    return last - position


def _odd_behind_everything(position: int, last: int) -> int:
    return position // 2 if position % 2 == 0 else last // 2 + position // 2 + 2


def _last_as_length(position: int, last: int) -> int:
    return position // 2 if position % 2 == 0 else last // 2 + position // 2


check_goes_to = SelfCheck(
    solution=_goes_to,
    cases=_goes_to_cases,
    mistakes=(
        Mistake(
            _odd_first,
            "The odd positions come first here. Position 0 is even and goes to place 0.",
        ),
        Mistake(
            _one_even_too_few,
            "Right for even lengths alone: a word of odd length has one even position "
            "more than odd ones.",
        ),
        Mistake(
            _comes_from,
            "You say from where the letter at a place comes. Say where the letter at a "
            "position goes.",
        ),
        Mistake(
            _backwards,
            "That is the program of the text, which writes backwards.",
        ),
        Mistake(
            _odd_behind_everything,
            "The odd positions go one place too far: the first of them follows the last "
            "even one.",
        ),
        Mistake(
            _last_as_length,
            "The odd positions go one place too early: `last` is a position, so there "
            "are `last // 2 + 1` even ones.",
        ),
    ),
)
