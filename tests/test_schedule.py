import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from transformer import warmup_rate, warmup_schedule
from transformer.schedule import (
    cosine_decay,
    cosine_schedule,
    linear_decay,
    linear_schedule,
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, 0.5 * 0.001),  # 4^-0.5 * 1 * 100^-1.5
        (50, 0.5 * 0.05),  # halfway up
        (100, 0.5 * 0.1),  # the peak: 100^-0.5
        (400, 0.5 * 0.05),  # 400^-0.5
        (10_000, 0.5 * 0.01),  # 10,000^-0.5
    ],
)
def test_rates_for_width_4_and_100_warm_up_steps(step, expected):
    assert warmup_rate(step, d_model=4, warmup_steps=100) == pytest.approx(expected)


def test_the_papers_base_model_peaks_at_seven_ten_thousandths():
    # 512^-0.5 * 4000^-0.5 = 0.000699
    assert warmup_rate(4000, 512) == pytest.approx(6.9877e-4, rel=1e-4)


def test_the_rate_peaks_exactly_when_warm_up_ends():
    rates = [warmup_rate(step, 512, 7) for step in range(1, 30)]
    assert rates.index(max(rates)) + 1 == 7
    assert rates[:7] == sorted(rates[:7])
    assert rates[6:] == sorted(rates[6:], reverse=True)


def test_the_schedule_gives_the_optimizer_the_rate_of_each_step():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=3.0)
    scheduler = warmup_schedule(optimizer, d_model=16, warmup_steps=5)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(
        [3.0 * warmup_rate(step, 16, 5) for step in range(1, 12)]
    )


def test_the_schedule_is_one_of_torchs_own():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
    assert isinstance(warmup_schedule(optimizer, 16), LambdaLR)


def test_linear_decay_worked_out_by_hand():
    # Up in 2 steps, then down by fifths, of which the last step still has one.
    rates = [linear_decay(step, warmup_steps=2, num_steps=6) for step in range(1, 9)]
    assert rates == pytest.approx([0.5, 1, 0.8, 0.6, 0.4, 0.2, 0, 0])


def test_cosine_decay_worked_out_by_hand():
    # Four steps lead from 1 to 0: cos of 0, 45, 90, 135 and 180 degrees, made positive.
    rates = [cosine_decay(step, warmup_steps=2, num_steps=5) for step in range(1, 8)]
    root = 0.5**0.5
    expected = [0.5, 1, (1 + root) / 2, 0.5, (1 - root) / 2, 0, 0]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("decay", [linear_decay, cosine_decay])
def test_one_step_of_warm_up_begins_at_the_peak(decay):
    rates = [decay(step, 1, 97) for step in range(1, 98)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


@pytest.mark.parametrize("decay", [linear_decay, cosine_decay])
def test_warm_up_may_last_to_the_end(decay):
    assert [decay(step, 3, 3) for step in (1, 2, 3, 4)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 0]
    )


@pytest.mark.parametrize(
    ("make", "decay"),
    [(linear_schedule, linear_decay), (cosine_schedule, cosine_decay)],
)
def test_a_decay_gives_the_optimizer_the_rate_of_each_step(make, decay):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=3.0)
    scheduler = make(optimizer, 5, 11)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([3.0 * decay(step, 5, 11) for step in range(1, 12)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 11), "^warmup_steps must be at least 1, got 0$"),
        ((5, 0), "^num_steps must be at least 1, got 0$"),
        (
            (12, 11),
            r"^warmup_steps \(12\) exceeds num_steps \(11\): the rate would never",
        ),
    ],
)
@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
def test_a_decay_that_never_peaks_is_refused_at_once(make, arguments, message):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
    with pytest.raises(ValueError, match=message):
        make(optimizer, *arguments)
