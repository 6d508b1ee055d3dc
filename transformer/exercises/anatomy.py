"""Checks for the exercises of companion C."""

import math

import torch
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.position_encoding import sinusoids


def _selectivity(
    said: Tensor, fact: Tensor, said_control: Tensor, control: Tensor
) -> float:
    return _share(said, fact) - _share(said_control, control)


def _share(said: Tensor, truth: Tensor) -> float:
    return (said == truth).double().mean().item()


def _selectivity_cases() -> list[tuple]:
    rows = [
        ("11010010", "11010110", "10110100", "11100110"),
        ("0110", "0110", "1001", "0110"),
        ("00111", "10011", "01101", "01101"),
        ("10100", "01100", "11000", "00001"),
    ]
    return [
        tuple(torch.tensor([bit == "1" for bit in bits]) for bits in row)
        for row in rows
    ]


def _selectivity_none(
    said: Tensor, fact: Tensor, _said_control: Tensor, _control: Tensor
) -> float:
    return _share(said, fact)


def _selectivity_reversed(
    said: Tensor, fact: Tensor, said_control: Tensor, control: Tensor
) -> float:
    return _share(said_control, control) - _share(said, fact)


def _selectivity_percent(
    said: Tensor, fact: Tensor, said_control: Tensor, control: Tensor
) -> float:
    return 100 * _selectivity(said, fact, said_control, control)


def _selectivity_ratio(
    said: Tensor, fact: Tensor, said_control: Tensor, control: Tensor
) -> float:
    return _share(said, fact) / _share(said_control, control)


def _selectivity_crossed(
    said: Tensor, fact: Tensor, said_control: Tensor, _control: Tensor
) -> float:
    return _share(said, fact) - _share(said_control, fact)


def _selectivity_counts(
    said: Tensor, fact: Tensor, said_control: Tensor, control: Tensor
) -> float:
    return len(said) * _selectivity(said, fact, said_control, control)


check_selectivity = SelfCheck(
    solution=_selectivity,
    cases=_selectivity_cases,
    mistakes=(
        Mistake(
            _selectivity_none,
            "That is the accuracy on the fact. Subtract the accuracy on the control.",
        ),
        Mistake(
            _selectivity_reversed,
            "The sign is turned round: the fact comes first, the control is subtracted.",
        ),
        Mistake(_selectivity_percent, "Give shares, not percentages."),
        Mistake(_selectivity_ratio, "Subtract the two shares, do not divide them."),
        Mistake(
            _selectivity_crossed,
            "You compare what was said of the control with the fact. The control has "
            "labels of its own.",
        ),
        Mistake(_selectivity_counts, "These are counts. Divide by the number of rows."),
    ),
)


def _gated_width(d_ff: int, multiple: int) -> int:
    return multiple * math.ceil(2 * d_ff / 3 / multiple)


def _width_cases() -> list[tuple]:
    return [(2_048, 256), (256, 8), (16_384, 256), (12, 4), (96, 64), (100, 1)]


def _width_down(d_ff: int, multiple: int) -> int:
    return multiple * (2 * d_ff // 3 // multiple)


def _width_nearest(d_ff: int, multiple: int) -> int:
    return multiple * round(2 * d_ff / 3 / multiple)


def _width_not_rounded(d_ff: int, _multiple: int) -> int:
    return math.ceil(2 * d_ff / 3)


def _width_half(d_ff: int, multiple: int) -> int:
    return multiple * math.ceil(d_ff / 2 / multiple)


def _width_more(d_ff: int, multiple: int) -> int:
    return multiple * math.ceil(3 * d_ff / 2 / multiple)


def _width_same(d_ff: int, multiple: int) -> int:
    return multiple * math.ceil(d_ff / multiple)


def _width_next(d_ff: int, multiple: int) -> int:
    return multiple * (2 * d_ff // 3 // multiple + 1)


check_gated_width = SelfCheck(
    solution=_gated_width,
    cases=_width_cases,
    mistakes=(
        Mistake(_width_down, "You round down. Round up to the next multiple."),
        Mistake(_width_nearest, "You round to the nearest multiple. Round up."),
        Mistake(
            _width_not_rounded,
            "Two thirds are right. Round them up to a multiple of `multiple`.",
        ),
        Mistake(
            _width_half,
            "With half of the width, three matrices hold fewer weights than the two had: "
            "solve 3 w = 2 d_ff.",
        ),
        Mistake(
            _width_more,
            "The new network has three matrices instead of two, so each must be narrower.",
        ),
        Mistake(
            _width_same,
            "At the same width, three matrices hold half as many weights again: solve "
            "3 w = 2 d_ff.",
        ),
        Mistake(
            _width_next,
            "Two thirds that are a multiple already stay as they are.",
        ),
    ),
)


def _turn(x: Tensor, start: int) -> Tensor:
    clocks = sinusoids(start + len(x), x.size(1), start=start)
    return _turned_by(x, clocks[:, 0::2], clocks[:, 1::2])


def _turned_by(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    right, up = x[:, 0::2], x[:, 1::2]
    turned = [right * cosine + up * sine, up * cosine - right * sine]
    return torch.stack(turned, dim=-1).flatten(1)


def _turn_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 6, generator=generator), 0),
        (torch.randn(3, 8, generator=generator), 5),
        # All hands up: chapter 2's table.
        (torch.tensor([0.0, 1.0]).repeat(5, 2), 0),
    ]


def _turn_back(x: Tensor, start: int) -> Tensor:
    clocks = sinusoids(start + len(x), x.size(1), start=start)
    return _turned_by(x, -clocks[:, 0::2], clocks[:, 1::2])


def _turn_no_start(x: Tensor, _start: int) -> Tensor:
    return _turn(x, 0)


def _turn_from_one(x: Tensor, start: int) -> Tensor:
    return _turn(x, start + 1)


def _turn_one_speed(x: Tensor, start: int) -> Tensor:
    angle = torch.arange(start, start + len(x))[:, None].float()
    return _turned_by(x, angle.sin(), angle.cos())


def _turn_halves(x: Tensor, start: int) -> Tensor:
    clocks = sinusoids(start + len(x), x.size(1), start=start)
    sine, cosine = clocks[:, 0::2], clocks[:, 1::2]
    right, up = x.chunk(2, dim=1)
    return torch.cat([right * cosine + up * sine, up * cosine - right * sine], dim=1)


def _turn_halves_joined(x: Tensor, start: int) -> Tensor:
    clocks = sinusoids(start + len(x), x.size(1), start=start)
    sine, cosine = clocks[:, 0::2], clocks[:, 1::2]
    right, up = x[:, 0::2], x[:, 1::2]
    return torch.cat([right * cosine + up * sine, up * cosine - right * sine], dim=1)


def _turn_added(x: Tensor, start: int) -> Tensor:
    return x + sinusoids(start + len(x), x.size(1), start=start)


def _turn_scaled(x: Tensor, start: int) -> Tensor:
    return x * sinusoids(start + len(x), x.size(1), start=start)


check_turn = SelfCheck(
    solution=_turn,
    cases=_turn_cases,
    mistakes=(
        Mistake(
            _turn_back,
            "You turn the hands back. Later positions stand further on: with all hands "
            "up, the table of chapter 2 must come out.",
        ),
        Mistake(
            _turn_no_start,
            "You begin at position 0 whatever `start` says. With a cache, the newest "
            "vector stands further on.",
        ),
        Mistake(
            _turn_from_one, "You begin one position too late: `start` is the first."
        ),
        Mistake(
            _turn_one_speed,
            "All your clocks run alike. Each pair has a speed of its own, as in "
            "`sinusoids`.",
        ),
        Mistake(
            _turn_halves,
            "You pair entry i with entry i + d/2, as some models do. Here a hand is two "
            "neighbouring entries.",
        ),
        Mistake(
            _turn_halves_joined,
            "Your hands are right, but they come out as two halves. Put the two entries "
            "of a hand next to each other again.",
        ),
        Mistake(
            _turn_added, "You add the signature. Turn the vector instead, pair by pair."
        ),
        Mistake(
            _turn_scaled,
            "You multiply entry by entry. A hand is turned by both its entries: each new "
            "one is a sum of two products.",
        ),
    ),
)


def _step_operations(
    d_model: int, d_ff: int, layers: int, vocab: int, source: int, so_far: int
) -> int:
    weights = 6 * d_model**2 + 2 * d_model * d_ff
    return 2 * (layers * (weights + 2 * d_model * (source + so_far)) + d_model * vocab)


def _step_cases() -> list[tuple]:
    return [
        (64, 256, 2, 14, 5, 3),
        (512, 2_048, 6, 37_000, 30, 25),
        (16, 40, 1, 11, 7, 1),
    ]


def _step_no_cache_of_memory(
    d_model: int, d_ff: int, layers: int, vocab: int, source: int, so_far: int
) -> int:
    again = 2 * layers * 2 * d_model**2
    return _step_operations(d_model, d_ff, layers, vocab, source, so_far) + again


def _step_memory_again(
    d_model: int, d_ff: int, layers: int, vocab: int, source: int, so_far: int
) -> int:
    again = 2 * layers * 2 * source * d_model**2
    return _step_operations(d_model, d_ff, layers, vocab, source, so_far) + again


def _step_no_output(
    d_model: int, d_ff: int, layers: int, _vocab: int, source: int, so_far: int
) -> int:
    return _step_operations(d_model, d_ff, layers, 0, source, so_far)


def _step_products_alone(
    d_model: int, d_ff: int, layers: int, vocab: int, source: int, so_far: int
) -> int:
    return _step_operations(d_model, d_ff, layers, vocab, source, so_far) // 2


def _step_no_source(
    d_model: int, d_ff: int, layers: int, vocab: int, _source: int, so_far: int
) -> int:
    return _step_operations(d_model, d_ff, layers, vocab, 0, so_far)


def _step_no_scores(
    d_model: int, d_ff: int, layers: int, vocab: int, _source: int, _so_far: int
) -> int:
    return _step_operations(d_model, d_ff, layers, vocab, 0, 0)


def _step_scores_alone(
    d_model: int, d_ff: int, layers: int, vocab: int, source: int, so_far: int
) -> int:
    # The scores, without the mixtures.
    missing = 2 * layers * d_model * (source + so_far)
    return _step_operations(d_model, d_ff, layers, vocab, source, so_far) - missing


def _step_every_token(
    d_model: int, d_ff: int, layers: int, vocab: int, source: int, so_far: int
) -> int:
    return so_far * _step_operations(d_model, d_ff, layers, vocab, source, so_far)


check_step_operations = SelfCheck(
    solution=_step_operations,
    cases=_step_cases,
    mistakes=(
        Mistake(
            _step_no_cache_of_memory,
            "The keys and values of cross-attention come from the memory: they were "
            "projected once, before the first step.",
        ),
        Mistake(
            _step_memory_again,
            "You project the memory's keys and values again. They are in the cache.",
        ),
        Mistake(_step_no_output, "The output projection is missing."),
        Mistake(
            _step_products_alone,
            "You count a multiplication and the addition that follows as one. They are "
            "two operations.",
        ),
        Mistake(
            _step_no_source, "Cross-attention compares with each source token, too."
        ),
        Mistake(
            _step_no_scores,
            "Scores and mixtures are missing: two products with each cached position.",
        ),
        Mistake(
            _step_scores_alone,
            "You count scores or mixtures, but not both.",
        ),
        Mistake(
            _step_every_token,
            "Only the newest token passes through. The earlier ones are in the cache.",
        ),
    ),
)


def _relative_bias(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    limit = table.size(1) // 2
    return table[:, _distances(num_queries, num_keys).clamp(-limit, limit) + limit]


def _distances(num_queries: int, num_keys: int) -> Tensor:
    return torch.arange(num_keys) - torch.arange(num_queries)[:, None]


def _bias_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(2, 5, generator=generator), 4, 7),
        (torch.randn(3, 3, generator=generator), 6, 5),
        (torch.randn(1, 9, generator=generator), 2, 2),
    ]


def _bias_mirrored(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    return _relative_bias(table.flip(1), num_queries, num_keys)


def _bias_round_and_round(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    size = table.size(1)
    return table[:, (_distances(num_queries, num_keys) + size // 2) % size]


def _bias_without_sign(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    limit = table.size(1) // 2
    return table[:, _distances(num_queries, num_keys).abs().clamp(max=limit) + limit]


def _bias_from_zero(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    limit = table.size(1) // 2
    return table[:, _distances(num_queries, num_keys).clamp(-limit, limit)]


def _bias_turned(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    return _relative_bias(table, num_queries, num_keys).transpose(1, 2)


def _bias_no_limit(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    return table[:, _distances(num_queries, num_keys) + table.size(1) // 2]


check_relative_bias = SelfCheck(
    solution=_relative_bias,
    cases=_bias_cases,
    mistakes=(
        Mistake(
            _bias_mirrored,
            "Left and right are exchanged: the distance is the key's position minus the "
            "query's.",
        ),
        Mistake(
            _bias_round_and_round,
            "Far positions come round again in your table. They must share the last "
            "entry: `clamp` the distance.",
        ),
        Mistake(
            _bias_without_sign,
            "You use the distance without its sign, so that left and right look alike.",
        ),
        Mistake(
            _bias_from_zero,
            "Distance 0 stands in the middle of the table: add `limit`.",
        ),
        Mistake(_bias_turned, "Rows are queries and columns are keys."),
        Mistake(
            _bias_no_limit,
            "Some distances lie outside the table: `clamp` them first.",
        ),
    ),
)
