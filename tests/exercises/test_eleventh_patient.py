"""The patient that the failure gallery leaves to its reader has the bug it should have."""

import math

import pytest
import torch

from transformer import next_token_loss
from transformer.exercises.failure_gallery import check_floor, eleventh_patient


@pytest.fixture
def call():
    """What `learn` is called with, without any training."""
    calls = []

    def learn(model, **options):
        calls.append((model, options))
        return [2.0]

    assert eleventh_patient(lambda: "healthy", learn) == ("healthy", [2.0])
    ((model, options),) = calls
    assert model == "healthy"
    return options


def test_nothing_differs_but_the_loss_the_rate_and_the_number_of_steps(call):
    assert set(call) == {"loss_function", "rate", "steps"}


@pytest.mark.parametrize("vocab_size", [2, 13, 1_000])
def test_its_loss_is_the_floor_of_the_check_for_a_model_that_is_certain_and_right(
    call, vocab_size
):
    due = torch.randint(1, vocab_size, (3, 5))
    certain = 200 * torch.nn.functional.one_hot(due, vocab_size).double()
    assert next_token_loss(certain, due).item() == pytest.approx(0)
    lowest = call["loss_function"](certain, due).item()
    assert lowest == pytest.approx(check_floor.solution(vocab_size))


def test_of_logits_that_are_all_alike_it_says_the_same_as_a_healthy_loss(call):
    due = torch.randint(1, 13, (3, 5))
    loss = call["loss_function"](torch.zeros(3, 5, 13), due).item()
    assert loss == pytest.approx(math.log(13))
