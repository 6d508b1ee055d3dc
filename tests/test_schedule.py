import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from transformer import warmup_rate, warmup_schedule


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
