"""Checks for the exercises of chapter 9."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.tokens import END, PAD, START

PLUS, ZERO = 3, 4


def _sum_to_tokens(a: int, b: int) -> list[int]:
    return [START, *(ZERO + int(digit) for digit in f"{a + b:03}"), END]


def _sum_cases() -> list[tuple]:
    # No number occurs twice in a row of digits, and sums have one, two and three digits.
    return [(7, 85), (0, 0), (57, 43), (99, 99), (4, 3), (40, 62)]


def _no_leading_zeros(a: int, b: int) -> list[int]:
    return [START, *(ZERO + int(digit) for digit in str(a + b)), END]


def _digits_as_ids(a: int, b: int) -> list[int]:
    return [START, *(int(digit) for digit in f"{a + b:03}"), END]


def _backwards(a: int, b: int) -> list[int]:
    return [START, *(ZERO + int(digit) for digit in f"{a + b:03}"[::-1]), END]


def _without_frame(a: int, b: int) -> list[int]:
    return _sum_to_tokens(a, b)[1:-1]


def _without_end(a: int, b: int) -> list[int]:
    return _sum_to_tokens(a, b)[:-1]


def _without_start(a: int, b: int) -> list[int]:
    return _sum_to_tokens(a, b)[1:]


def _after_plus(a: int, b: int) -> list[int]:
    return [START, *(PLUS + int(digit) for digit in f"{a + b:03}"), END]


check_sum_to_tokens = SelfCheck(
    solution=_sum_to_tokens,
    cases=_sum_cases,
    mistakes=(
        Mistake(
            _no_leading_zeros,
            "Every sum has three digits: write the leading zeros, as in `f'{total:03}'`.",
        ),
        Mistake(
            _digits_as_ids,
            "You use digits as ids, but 0, 1 and 2 are PAD, START and END. Digit 0 has "
            "the id 4.",
        ),
        Mistake(
            _after_plus, "Your digits begin at 3, but 3 is `+`. Digit 0 has the id 4."
        ),
        Mistake(_backwards, "The digits are backwards: the hundreds come first."),
        Mistake(_without_frame, "START belongs in front and END behind."),
        Mistake(_without_end, "END is missing: the model must say that it is done."),
        Mistake(_without_start, "START is missing: it is the first token."),
    ),
)


def _tokens_to_sum(tokens: list[int]) -> int:
    if len(tokens) < 5 or tokens[0] != START or tokens[4] != END:
        return -1
    digits = [token - ZERO for token in tokens[1:4]]
    if not all(0 <= digit <= 9 for digit in digits) or any(
        token != PAD for token in tokens[5:]
    ):
        return -1
    return 100 * digits[0] + 10 * digits[1] + digits[2]


def _token_cases() -> list[tuple]:
    return [
        ([START, 4, 13, 6, END],),
        ([START, 5, 4, 4, END],),
        # Padded, as in a batch with longer rows.
        ([START, 5, 13, 12, END, PAD, PAD],),
        # Too short, a + among the digits, no END, a token after END.
        ([START, 9, 6, END],),
        ([START, 4, PLUS, 6, END],),
        ([START, 4, 13, 6, 6],),
        ([START, 4, 13, 6, END, 6],),
        ([START, 4, END, END, END],),
        # Three digits, but START is missing or END comes too soon.
        ([4, 13, 6, END, PAD],),
        ([START, 4, 13, END, 6],),
    ]


def _trusting(tokens: list[int]) -> int:
    digits = [token - ZERO for token in tokens[1:4]]
    return sum(10 ** (2 - place) * digit for place, digit in enumerate(digits))


def _digits_anywhere(tokens: list[int]) -> int:
    digits = [token - ZERO for token in tokens if token >= ZERO]
    return int("".join(map(str, digits))) if len(digits) == 3 else -1


def _any_digits(tokens: list[int]) -> int:
    digits = [str(token - ZERO) for token in tokens if token >= ZERO]
    return int("".join(digits)) if digits else -1


def _whatever_follows(tokens: list[int]) -> int:
    return _tokens_to_sum(tokens[:5])


def _no_padding(tokens: list[int]) -> int:
    return _tokens_to_sum(tokens) if len(tokens) == 5 else -1


def _units_first(tokens: list[int]) -> int:
    number = _tokens_to_sum(tokens)
    return -1 if number < 0 else int(f"{number:03}"[::-1])


check_tokens_to_sum = SelfCheck(
    solution=_tokens_to_sum,
    cases=_token_cases,
    mistakes=(
        Mistake(
            _trusting,
            "You believe every row. One that is not START, three digits, END must give "
            "-1.",
        ),
        Mistake(
            _any_digits,
            "You collect the digits wherever they are. A row that is not START, three "
            "digits, END must give -1.",
        ),
        Mistake(
            _digits_anywhere,
            "Three digits are not enough: check that START stands before them and END "
            "behind them.",
        ),
        Mistake(
            _whatever_follows,
            "You stop reading at END. A token other than PAD behind it makes the row "
            "wrong.",
        ),
        Mistake(_no_padding, "PAD behind END is no mistake: rows of a batch have it."),
        Mistake(_units_first, "You read the units first. The hundreds come first."),
    ),
)


def _count_carries(a: Tensor, b: Tensor) -> Tensor:
    count, carry = torch.zeros_like(a), torch.zeros_like(a)
    for place in (1, 10, 100):
        carry = (a // place % 10 + b // place % 10 + carry) // 10
        count += carry
    return count


def _carry_cases() -> list[tuple]:
    pairs = [
        # none; one alone at each place; all; one that causes the next, and the next.
        [(123, 456), (157, 226), (170, 250), (700, 500), (888, 777), (257, 743)],
        [(0, 0), (999, 1), (1, 999), (999, 999), (90, 10), (450, 549), (455, 45)],
        [(95, 5), (94, 5), (950, 50), (5, 5), (505, 505)],
    ]
    return [tuple(torch.tensor(numbers).T.contiguous()) for numbers in pairs]


def _carried(a: Tensor, b: Tensor, places: tuple, least: int = 10) -> Tensor:
    count, carry = torch.zeros_like(a), torch.zeros_like(a)
    for place in places:
        carry = (a // place % 10 + b // place % 10 + carry >= least).long()
        count += carry
    return count


def _without_hundreds(a: Tensor, b: Tensor) -> Tensor:
    return _carried(a, b, (1, 10))


def _units_only(a: Tensor, b: Tensor) -> Tensor:
    return _carried(a, b, (1,))


def _hundreds_only(a: Tensor, b: Tensor) -> Tensor:
    return (a + b) // 1000


def _each_column_alone(a: Tensor, b: Tensor) -> Tensor:
    return sum((a // place % 10 + b // place % 10) // 10 for place in (1, 10, 100))


def _nine_is_enough(a: Tensor, b: Tensor) -> Tensor:
    return _carried(a, b, (1, 10, 100), least=9)


def _more_than_ten(a: Tensor, b: Tensor) -> Tensor:
    return _carried(a, b, (1, 10, 100), least=11)


def _whether_any(a: Tensor, b: Tensor) -> Tensor:
    return _count_carries(a, b).clamp(max=1)


check_count_carries = SelfCheck(
    solution=_count_carries,
    cases=_carry_cases,
    mistakes=(
        Mistake(
            _units_only,
            "You count the carry out of the units only. Tens and hundreds carry too.",
        ),
        Mistake(
            _without_hundreds, "You stop at the tens. The hundreds can carry as well."
        ),
        Mistake(
            _hundreds_only,
            "You count the carry out of the hundreds only. Units and tens carry too.",
        ),
        Mistake(
            _each_column_alone,
            "You look at each column alone. In 257 + 743 the tens carry only because the "
            "units did: add the carry to the next column.",
        ),
        Mistake(_nine_is_enough, "A column carries from 10 on, not from 9 on."),
        Mistake(_more_than_ten, "A column that gives exactly 10 carries too."),
        Mistake(
            _whether_any,
            "You say whether there is a carry. How many there are is wanted.",
        ),
    ),
)


def _fitted(stream: Tensor, digit: Tensor, constant: bool = True) -> Tensor:
    return torch.linalg.lstsq(_extended(stream, constant), digit).solution


def _extended(stream: Tensor, constant: bool = True) -> Tensor:
    ones = stream.new_ones(len(stream), 1)
    # In single precision, least squares loses the directions in which vectors differ least.
    return (torch.cat([stream, ones], dim=1) if constant else stream).double()


def _scores(
    stream: Tensor, digit: Tensor, num_fitted: int, constant: bool = True
) -> Tensor:
    wanted = F.one_hot(digit[:num_fitted], 10).double()
    weights = _fitted(stream[:num_fitted], wanted, constant)
    return _extended(stream, constant) @ weights


def _fitted_lens(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    return _scores(stream, digit, num_fitted)[num_fitted:].argmax(dim=1)


def _lens_cases() -> list[tuple]:
    # One direction a digit, on top of a constant that a map without one cannot undo.
    cases = []
    for seed, num_rows, num_fitted in ((0, 60, 40), (1, 70, 50)):
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(10, 12, generator=generator)
        digit = torch.randint(10, (num_rows,), generator=generator)
        noise = torch.randn(num_rows, 12, generator=generator)
        cases.append((3 + directions[digit] + 0.7 * noise, digit, num_fitted))
    return cases


def _asks_the_fitted(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    return _scores(stream, digit, num_fitted)[:num_fitted].argmax(dim=1)


def _asks_all(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    return _scores(stream, digit, num_fitted).argmax(dim=1)


def _fits_all(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    return _scores(stream, digit, len(stream))[num_fitted:].argmax(dim=1)


def _without_constant(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    return _scores(stream, digit, num_fitted, constant=False)[num_fitted:].argmax(dim=1)


def _digit_as_number(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    wanted = digit[:num_fitted, None].double()
    weights = _fitted(stream[:num_fitted], wanted)
    return (_extended(stream) @ weights)[num_fitted:, 0].round().long()


def _gives_scores(stream: Tensor, digit: Tensor, num_fitted: int) -> Tensor:
    return _scores(stream, digit, num_fitted)[num_fitted:]


check_fitted_lens = SelfCheck(
    solution=_fitted_lens,
    cases=_lens_cases,
    mistakes=(
        Mistake(
            _asks_the_fitted,
            "You ask about the rows that you have fitted. Ask about the others.",
        ),
        Mistake(_asks_all, "You ask about all rows. Leave out those that you fitted."),
        Mistake(
            _fits_all,
            "You fit all rows, also those that you ask about. Fit the first "
            "`num_fitted` alone.",
        ),
        Mistake(
            _without_constant,
            "Your map has no constant term: give every vector a last entry of 1.",
        ),
        Mistake(
            _digit_as_number,
            "You fit the digit as a number, as if 4 lay between 3 and 5. Fit ten "
            "columns, one a digit, with `one_hot`.",
        ),
        Mistake(
            _gives_scores,
            "You return ten scores a row. The digit is the column of the largest one.",
        ),
    ),
)


def _units_first(tgt_out: Tensor) -> Tensor:
    return torch.cat([tgt_out[:, :-1].flip(1), tgt_out[:, -1:]], dim=1)


def _target_cases() -> list[tuple]:
    sums = [["092", "183", "100"], ["0451", "1998"]]
    return [
        (torch.tensor([[ZERO + int(digit) for digit in s] + [END] for s in row]),)
        for row in sums
    ]


def _end_in_front(tgt_out: Tensor) -> Tensor:
    return tgt_out.flip(1)


def _rows_flipped(tgt_out: Tensor) -> Tensor:
    return tgt_out.flip(0)


def _end_lost(tgt_out: Tensor) -> Tensor:
    return tgt_out[:, :-1].flip(1)


def _units_to_the_front(tgt_out: Tensor) -> Tensor:
    return torch.cat([tgt_out[:, :-1].roll(1, dims=1), tgt_out[:, -1:]], dim=1)


def _as_it_was(tgt_out: Tensor) -> Tensor:
    return tgt_out.clone()


check_units_first = SelfCheck(
    solution=_units_first,
    cases=_target_cases,
    mistakes=(
        Mistake(
            _end_in_front,
            "END has come to the front. It stays where it is: turn the digits only.",
        ),
        Mistake(
            _rows_flipped,
            "You turn the order of the rows. Turn the digits within each row.",
        ),
        Mistake(_end_lost, "END is lost: it stands behind the digits, as before."),
        Mistake(
            _units_to_the_front,
            "Only the units have moved. The tens come next, then the hundreds.",
        ),
        Mistake(_as_it_was, "The digits stand as they did: `flip` turns them round."),
    ),
)
