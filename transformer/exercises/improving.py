"""Checks for the exercises of companion E."""

from itertools import accumulate, permutations

import torch
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck


def _examples_needed(right: list[int], asked: int, every: int) -> int:
    for exam, count in enumerate(right, start=1):
        if 100 * count >= 99 * asked:
            return exam * every
    return -1


def _exam_cases() -> list[tuple]:
    return [
        # Reached, lost, reached again; reached exactly; missed by one; never.
        ([12, 640, 993, 985, 1_000], 1_000, 3_200),
        ([100, 989, 990, 1_000], 1_000, 6_400),
        ([3, 98, 97], 100, 50),
        ([990], 1_000, 1),
        ([198, 199, 200], 201, 10),
    ]


def _steps_or_exams(right: list[int], asked: int, _every: int) -> int:
    return _examples_needed(right, asked, 1)


def _counted_from_zero(right: list[int], asked: int, every: int) -> int:
    needed = _examples_needed(right, asked, every)
    return needed if needed < 0 else needed - every


def _more_than(right: list[int], asked: int, every: int) -> int:
    return _examples_needed([count - 1 for count in right], asked, every)


def _all_of_them(right: list[int], asked: int, every: int) -> int:
    for exam, count in enumerate(right, start=1):
        if count == asked:
            return exam * every
    return -1


def _for_good(right: list[int], asked: int, every: int) -> int:
    low = [exam for exam, count in enumerate(right, 1) if 100 * count < 99 * asked]
    first = max(low, default=0) + 1
    return first * every if first <= len(right) else -1


def _ninety_nine(right: list[int], _asked: int, every: int) -> int:
    return _examples_needed(right, 100, every)


def _rounded_share(right: list[int], asked: int, every: int) -> int:
    for exam, count in enumerate(right, start=1):
        if round(100 * count / asked) >= 99:
            return exam * every
    return -1


def _last_instead(right: list[int], asked: int, every: int) -> int:
    needed = _examples_needed(right, asked, every)
    return needed if needed > 0 else len(right) * every


check_examples_needed = SelfCheck(
    solution=_examples_needed,
    cases=_exam_cases,
    mistakes=(
        Mistake(
            _steps_or_exams,
            "You count exams. Between two exams lie `every` examples: multiply.",
        ),
        Mistake(
            _counted_from_zero,
            "You are one exam too early: the first exam comes after `every` examples.",
        ),
        Mistake(_more_than, "99 % exactly is enough: compare with `>=`."),
        Mistake(_all_of_them, "You wait until all are right. 99 % of them are enough."),
        Mistake(
            _for_good,
            "You wait until no later exam falls below 99 %. The first exam that reaches it "
            "counts.",
        ),
        Mistake(
            _ninety_nine,
            "You compare the count with 99. It is 99 % of `asked` that must be right.",
        ),
        Mistake(
            _rounded_share, "You round: 98.5 % becomes 99. Compare without rounding."
        ),
        Mistake(
            _last_instead,
            "A run that never gets there has no number of examples: return -1.",
        ),
    ),
)


def _largest_risk(num_runs: int) -> float:
    return 1 - 0.05 ** (1 / num_runs)


def _risk_cases() -> list[tuple]:
    return [(1,), (5,), (20,), (100,)]


def _probability_of_success(num_runs: int) -> float:
    return 0.05 ** (1 / num_runs)


def _with_95(num_runs: int) -> float:
    return 1 - 0.95 ** (1 / num_runs)


def _rule_of_three(num_runs: int) -> float:
    return 3 / num_runs


def _chance_of_all(num_runs: int) -> float:
    return 0.95**num_runs


def _no_risk(_num_runs: int) -> float:
    return 0.0


def _root_forgotten(num_runs: int) -> float:
    return 1 - 0.05 / num_runs


check_largest_risk = SelfCheck(
    solution=_largest_risk,
    cases=_risk_cases,
    mistakes=(
        Mistake(
            _probability_of_success,
            "That is how often a run succeeds. The risk is what is missing to 1.",
        ),
        Mistake(
            _with_95,
            "You ask for the risk at which all runs succeed with 95 %. The largest one is "
            "where they succeed with 5 %.",
        ),
        Mistake(
            _rule_of_three,
            "That is the rule of three, good for many runs. Solve (1 - risk)^n = 0.05 "
            "exactly.",
        ),
        Mistake(
            _chance_of_all,
            "That is how likely n successes are at a risk of 5 %. Turn it round: find the "
            "risk at which they have a chance of 5 %.",
        ),
        Mistake(
            _no_risk,
            "No failure seen does not mean no risk: a coin may show heads five times.",
        ),
        Mistake(
            _root_forgotten,
            "You divide by n. The chances of n runs multiply, so take the n-th root.",
        ),
    ),
)


def _running_average(values: list[float], decay: float) -> list[float]:
    return list(accumulate(values, lambda old, new: decay * old + (1 - decay) * new))


def _average_cases() -> list[tuple]:
    return [
        ([1.0, 3.0, 2.0, 6.0], 0.5),
        ([4.0, 0.0, 0.0, 0.0, 8.0], 0.9),
        ([2.5], 0.99),
        ([-1.0, 1.0, -2.0], 0.75),
    ]


def _other_way_round(values: list[float], decay: float) -> list[float]:
    return _running_average(values, 1 - decay)


def _from_zero(values: list[float], decay: float) -> list[float]:
    return _running_average([0.0, *values], decay)[1:]


def _mean_so_far(values: list[float], _decay: float) -> list[float]:
    return [sum(values[:end]) / end for end in range(1, len(values) + 1)]


def _last_average(values: list[float], decay: float) -> float:
    return _running_average(values, decay)[-1]


def _sum_that_fades(values: list[float], decay: float) -> list[float]:
    return list(accumulate(values, lambda old, new: decay * old + new))


def _of_neighbours(values: list[float], decay: float) -> list[float]:
    pairs = zip([values[0], *values], values, strict=False)
    return [decay * old + (1 - decay) * new for old, new in pairs]


check_running_average = SelfCheck(
    solution=_running_average,
    cases=_average_cases,
    mistakes=(
        Mistake(
            _other_way_round,
            "You have exchanged the two weights: `decay` belongs to the old average.",
        ),
        Mistake(
            _from_zero,
            "You begin with an average of 0, and it takes long to leave it. Begin with the "
            "first value.",
        ),
        Mistake(
            _mean_so_far,
            "You weigh all values alike. Old ones must fade, by `decay` at each step.",
        ),
        Mistake(
            _last_average, "You return the last average. All are wanted, as a list."
        ),
        Mistake(
            _sum_that_fades,
            "Your weights do not add up to 1: the new value has the weight 1 - `decay`.",
        ),
        Mistake(
            _of_neighbours,
            "You mix two values that follow each other. Mix the new value with the average "
            "so far.",
        ),
    ),
)


def _columns_to_read(a: int, b: int, num_digits: int) -> int:
    for count in range(1, num_digits + 1):
        place = 10 ** (num_digits - count)
        if a // place % 10 + b // place % 10 != 9:
            return count
    return num_digits


def _look_cases() -> list[tuple]:
    return [
        (57, 26, 2),
        (57, 43, 2),
        (257, 743, 3),
        (257, 748, 3),
        # A carry that comes from below and is not needed; 9 in the last column; one digit.
        (557, 548, 3),
        (450, 549, 3),
        (1_205, 3_799, 4),
        (4, 5, 1),
        (99, 99, 2),
    ]


def _chain_length(a: int, b: int, num_digits: int) -> int:
    longest = chain = 0
    for place in range(num_digits):
        column = a // 10**place % 10 + b // 10**place % 10
        chain = 1 if column > 9 else chain + 1 if column == 9 and chain else 0
        longest = max(longest, chain)
    return longest


def _units_upwards(a: int, b: int, num_digits: int) -> int:
    for count in range(1, num_digits + 1):
        place = 10 ** (count - 1)
        if a // place % 10 + b // place % 10 != 9:
            return count
    return num_digits


def _nines_alone(a: int, b: int, num_digits: int) -> int:
    nines = 0
    for count in range(1, num_digits + 1):
        place = 10 ** (num_digits - count)
        if a // place % 10 + b // place % 10 != 9:
            break
        nines += 1
    return nines


def _all_columns(_a: int, _b: int, num_digits: int) -> int:
    return num_digits


def _until_a_carry(a: int, b: int, num_digits: int) -> int:
    for count in range(1, num_digits + 1):
        place = 10 ** (num_digits - count)
        if a // place % 10 + b // place % 10 > 9:
            return count
    return num_digits


def _nines_anywhere(a: int, b: int, num_digits: int) -> int:
    columns = [a // 10**n % 10 + b // 10**n % 10 for n in range(num_digits)]
    return min(columns.count(9) + 1, num_digits)


def _one_too_many(a: int, b: int, num_digits: int) -> int:
    return _nines_alone(a, b, num_digits) + 1


check_columns_to_read = SelfCheck(
    solution=_columns_to_read,
    cases=_look_cases,
    mistakes=(
        Mistake(
            _chain_length,
            "You give the length of the carry chain. Begin at the highest column, and stop "
            "where no carry from below could change anything.",
        ),
        Mistake(_units_upwards, "You begin at the units. Begin at the highest column."),
        Mistake(
            _nines_alone,
            "You count the columns that make 9. The one that decides must be read, too.",
        ),
        Mistake(
            _all_columns,
            "You always read everything. A column that makes 8 or less stops a carry, and "
            "one that makes 10 sends one up in any case.",
        ),
        Mistake(
            _until_a_carry,
            "You go on until a carry begins. A column that makes 8 or less decides, too: "
            "nothing from below gets through it.",
        ),
        Mistake(
            _nines_anywhere,
            "You count 9 wherever it is. Once a column has decided, those below do not "
            "matter.",
        ),
        Mistake(
            _one_too_many,
            "If all columns make 9, there is none left to read: the answer is at most "
            "`num_digits`.",
        ),
    ),
)


def _borrowed(a: int, b: int, num_digits: int) -> list[tuple[int, int]]:
    borrow, written = 0, []
    for place in range(num_digits):
        column = a // 10**place % 10 - b // 10**place % 10 - borrow
        borrow = int(column < 0)
        written.append((borrow, column % 10))
    return written


def _notes(a: int, b: int, num_digits: int) -> str:
    return "".join(f"{borrow}{digit}" for borrow, digit in _borrowed(a, b, num_digits))


def _borrow_pad(a: int, b: int, num_digits: int) -> str:
    return _notes(a, b, num_digits) + f"{a - b:0{num_digits}}"


def _borrow_cases() -> list[tuple]:
    return [
        (83, 26, 2),
        (57, 26, 2),
        (100, 1, 3),
        (500, 500, 3),
        (7, 3, 1),
        (1_000, 999, 4),
        (912, 345, 3),
    ]


def _without_result(a: int, b: int, num_digits: int) -> str:
    return _notes(a, b, num_digits)


def _highest_first(a: int, b: int, num_digits: int) -> str:
    pairs = [f"{borrow}{digit}" for borrow, digit in _borrowed(a, b, num_digits)]
    return "".join(pairs[::-1]) + f"{a - b:0{num_digits}}"


def _borrow_forgotten(a: int, b: int, num_digits: int) -> str:
    columns = [a // 10**n % 10 - b // 10**n % 10 for n in range(num_digits)]
    notes = "".join(f"{int(column < 0)}{column % 10}" for column in columns)
    return notes + f"{a - b:0{num_digits}}"


def _digit_then_borrow(a: int, b: int, num_digits: int) -> str:
    pairs = [f"{digit}{borrow}" for borrow, digit in _borrowed(a, b, num_digits)]
    return "".join(pairs) + f"{a - b:0{num_digits}}"


def _no_leading_zeros(a: int, b: int, num_digits: int) -> str:
    return _notes(a, b, num_digits) + str(a - b)


def _incoming(a: int, b: int, num_digits: int) -> str:
    written = _borrowed(a, b, num_digits)
    borrows = [0] + [borrow for borrow, _ in written]
    pairs = [f"{borrows[n]}{digit}" for n, (_, digit) in enumerate(written)]
    return "".join(pairs) + f"{a - b:0{num_digits}}"


def _as_a_sum(a: int, b: int, num_digits: int) -> str:
    carry, notes = 0, ""
    for place in range(num_digits):
        column = a // 10**place % 10 + b // 10**place % 10 + carry
        carry = column // 10
        notes += f"{carry}{column % 10}"
    return notes + f"{a + b:0{num_digits + 1}}"


check_borrow_pad = SelfCheck(
    solution=_borrow_pad,
    cases=_borrow_cases,
    mistakes=(
        Mistake(
            _without_result,
            "The notes are there, but the difference itself is missing at the end.",
        ),
        Mistake(_highest_first, "Your notes begin at the highest column. Units first."),
        Mistake(
            _borrow_forgotten,
            "You write the borrow down, but do not take it off the next column.",
        ),
        Mistake(
            _digit_then_borrow,
            "Borrow and digit have changed places: the borrow comes first.",
        ),
        Mistake(
            _no_leading_zeros,
            "Leading zeros are missing: the difference has `num_digits` digits.",
        ),
        Mistake(
            _incoming,
            "You note the borrow that comes into a column. Note the one that it makes.",
        ),
        Mistake(_as_a_sum, "You add. The second number is to be taken away."),
    ),
)


def _mirrored(pairs: Tensor) -> Tensor:
    return torch.cat([pairs, pairs.flip(1)])


def _pairs_cases() -> list[tuple]:
    return [
        (torch.tensor([[57, 26], [7, 85], [3, 3]]),),
        (torch.tensor([[0, 99]]),),
        (torch.tensor([[12, 34], [34, 12], [5, 60], [61, 8]]),),
    ]


def _rows_turned(pairs: Tensor) -> Tensor:
    return torch.cat([pairs, pairs.flip(0)])


def _mirrors_alone(pairs: Tensor) -> Tensor:
    return pairs.flip(1)


def _side_by_side(pairs: Tensor) -> Tensor:
    return torch.cat([pairs, pairs.flip(1)], dim=1)


def _twice(pairs: Tensor) -> Tensor:
    return torch.cat([pairs, pairs])


def _alternating(pairs: Tensor) -> Tensor:
    return torch.stack([pairs, pairs.flip(1)], dim=1).flatten(0, 1)


def _half_each(pairs: Tensor) -> Tensor:
    half = len(pairs) // 2
    return torch.cat([pairs[:half], pairs[half:].flip(1)])


check_mirrored = SelfCheck(
    solution=_mirrored,
    cases=_pairs_cases,
    mistakes=(
        Mistake(
            _rows_turned,
            "You turn the order of the rows. Turn the two numbers of each.",
        ),
        Mistake(_mirrors_alone, "The mirrors are there; the pairs themselves are not."),
        Mistake(
            _side_by_side,
            "Your rows hold four numbers. Put the mirrors below the pairs, dim=0.",
        ),
        Mistake(_twice, "You have each pair twice. The second time, turn it round."),
        Mistake(
            _alternating,
            "Each mirror follows its pair. All pairs come first, then all mirrors.",
        ),
        Mistake(
            _half_each,
            "You turn half of the pairs. Every pair is wanted in both orders.",
        ),
    ),
)


def _fair_shares(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    orders = list(permutations(range(num_changes)))
    shares = [0.0] * num_changes
    for order in orders:
        made = 0
        for change in order:
            shares[change] += (results[made | 1 << change] - results[made]) / len(
                orders
            )
            made |= 1 << change
    return shares


def _result_cases() -> list[tuple]:
    return [
        # Nothing helps alone, both together do; then a change that does harm as a third.
        ([10.0, 10.0, 10.0, 90.0],),
        ([10.0, 40.0, 30.0, 90.0],),
        ([0.0, 5.0, 1.0, 20.0, -3.0, 2.0, -2.0, 30.0],),
        ([7.0, 9.0],),
    ]


def _added_alone(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    return [results[1 << change] - results[0] for change in range(num_changes)]


def _taken_back(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    everything = len(results) - 1
    return [
        results[everything] - results[everything ^ 1 << change]
        for change in range(num_changes)
    ]


def _in_one_order(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    return [
        results[(2 << change) - 1] - results[(1 << change) - 1]
        for change in range(num_changes)
    ]


def _backwards_order(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    everything = len(results) - 1
    shares = []
    for change in range(num_changes):
        later = everything & ~((2 << change) - 1)
        shares.append(results[later | 1 << change] - results[later])
    return shares


def _equal_shares(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    return [(results[-1] - results[0]) / num_changes] * num_changes


def _mean_of_sets(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    shares = []
    for change in range(num_changes):
        without = [made for made in range(len(results)) if not made >> change & 1]
        gains = [results[made | 1 << change] - results[made] for made in without]
        shares.append(sum(gains) / len(gains))
    return shares


def _not_divided(results: list[float]) -> list[float]:
    num_changes = len(results).bit_length() - 1
    count = len(list(permutations(range(num_changes))))
    return [count * share for share in _fair_shares(results)]


check_fair_shares = SelfCheck(
    solution=_fair_shares,
    cases=_result_cases,
    mistakes=(
        Mistake(
            _added_alone,
            "You make each change alone, with none of the others. Average over all orders.",
        ),
        Mistake(
            _taken_back,
            "You take each change back from the whole. Average over all orders.",
        ),
        Mistake(
            _in_one_order,
            "You make the changes in one order, 0, 1, 2. Average over all orders.",
        ),
        Mistake(
            _backwards_order,
            "You make the changes in one order, the last first. Average over all orders.",
        ),
        Mistake(
            _equal_shares,
            "You divide the whole gain equally. What a change adds depends on the change.",
        ),
        Mistake(
            _mean_of_sets,
            "You weigh all sets alike. In the orders they do not occur equally often: a "
            "change is the first in a third of the orders of three.",
        ),
        Mistake(_not_divided, "You add up over the orders. Divide by their number."),
    ),
)
