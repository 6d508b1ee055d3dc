"""What the checks of companion E hold to be right, found in another way."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from transformer.exercises import improving


def cases(check):
    return [pytest.param(*case, id=str(n)) for n, case in enumerate(check.cases())]


@pytest.mark.parametrize(
    ("right", "asked", "every"), cases(improving.check_examples_needed)
)
def test_the_exam_that_counts_is_the_first_of_those_that_reach_it(right, asked, every):
    needed = improving.check_examples_needed.solution(right, asked, every)
    reached = (torch.tensor(right).double() / asked >= 0.99).nonzero()[:, 0].tolist()
    assert needed == (every * (reached[0] + 1) if reached else -1)


@pytest.mark.parametrize("num_runs", range(1, 50, 7))
def test_at_the_largest_risk_a_clean_record_has_a_chance_of_a_twentieth(num_runs):
    risk = improving.check_largest_risk.solution(num_runs)
    assert (1 - risk) ** num_runs == pytest.approx(0.05)
    assert risk <= 3 / num_runs


@pytest.mark.parametrize(("values", "decay"), cases(improving.check_running_average))
def test_the_running_average_is_the_one_that_pytorch_keeps(values, decay):
    model = torch.nn.Linear(1, 1, bias=False).double()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    kept = []
    for value in values:
        torch.nn.init.constant_(model.weight, value)
        averaged.update_parameters(model)
        kept.append(averaged.module.weight.item())
    found = improving.check_running_average.solution(values, decay)
    assert found == pytest.approx(kept)


@pytest.mark.parametrize(
    ("a", "b", "num_digits"), cases(improving.check_columns_to_read)
)
def test_what_is_not_read_changes_nothing_and_one_column_less_would(a, b, num_digits):
    def carries(unread):
        """Whether a carry arrives at the top, for all that could stand below."""
        rest = 10**unread
        kept = a // rest * rest + b // rest * rest
        return {(kept + below) >= 10**num_digits for below in (0, 2 * rest - 2)}

    needed = improving.check_columns_to_read.solution(a, b, num_digits)
    assert len(carries(num_digits - needed)) == 1
    if needed > 1:
        assert len(carries(num_digits - needed + 1)) == 2


@pytest.mark.parametrize(("a", "b", "num_digits"), cases(improving.check_borrow_pad))
def test_notes_and_difference_agree_with_python(a, b, num_digits):
    pad = improving.check_borrow_pad.solution(a, b, num_digits)
    notes, difference = pad[: 2 * num_digits], pad[2 * num_digits :]
    assert int(difference) == a - b
    assert notes[1::2] == difference[::-1]
    for place, borrow in enumerate(notes[::2], start=1):
        assert (a % 10**place < b % 10**place) == (borrow == "1")


@pytest.mark.parametrize("pairs", cases(improving.check_mirrored))
def test_mirrors_have_the_same_sums_in_the_same_order(pairs):
    first, second = improving.check_mirrored.solution(pairs).chunk(2)
    assert torch.equal(first, pairs)
    assert torch.equal(first.sum(dim=1), second.sum(dim=1))
    assert torch.equal(first[:, 0], second[:, 1])


@pytest.mark.parametrize("results", cases(improving.check_fair_shares))
def test_shares_add_up_and_who_changes_nothing_gets_nothing(results):
    shares = improving.check_fair_shares.solution(results)
    assert sum(shares) == pytest.approx(results[-1] - results[0])
    idle = improving.check_fair_shares.solution([*results, *results])
    assert idle == pytest.approx([*shares, 0])


def test_changes_that_are_alike_get_the_same():
    worth = {0: 0.0, 1: 1.0, 2: 4.0, 3: 9.0}
    results = [worth[bin(made).count("1")] for made in range(8)]
    shares = improving.check_fair_shares.solution(results)
    assert shares == pytest.approx([3, 3, 3])


def test_every_order_of_two_counts_half():
    alone_0, alone_1, both = 20.0, 50.0, 90.0
    shares = improving.check_fair_shares.solution([10.0, alone_0, alone_1, both])
    gains = [
        {0: alone_0 - 10, 1: both - alone_0},
        {1: alone_1 - 10, 0: both - alone_1},
    ]
    assert shares == [sum(gain[change] for gain in gains) / 2 for change in (0, 1)]
