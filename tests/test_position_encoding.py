import math

import pytest
import torch

from transformer import PositionalEncoding
from transformer.position_encoding import sinusoids


def test_position_zero_is_zeros_and_ones():
    assert sinusoids(3, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("position", "column", "value"),
    [
        (1, 0, 0.8414709848),  # sin 1
        (1, 1, 0.5403023059),  # cos 1
        (1, 2, 0.0099998333),  # sin 0.01, as 10000^(2/4) = 100
        (1, 3, 0.9999500004),  # cos 0.01
        (50, 2, 0.4794255386),  # sin 0.5
        (50, 3, 0.8775825619),  # cos 0.5
        (2, 0, 0.9092974268),  # sin 2
        (2, 1, -0.4161468365),  # cos 2
    ],
)
def test_sinusoids_of_width_four_have_these_values(position, column, value):
    assert sinusoids(53, 4)[position, column].item() == pytest.approx(value, abs=1e-7)


def test_every_entry_follows_the_formula():
    table = sinusoids(29, 10)
    for position in range(29):
        for pair in range(5):
            angle = position / 10_000 ** (2 * pair / 10)
            assert table[position, 2 * pair].item() == pytest.approx(
                math.sin(angle), abs=1e-6
            )
            assert table[position, 2 * pair + 1].item() == pytest.approx(
                math.cos(angle), abs=1e-6
            )


def test_late_positions_are_as_exact_as_early_ones():
    # In float32 arithmetic the angle 4999 alone would be wrong by up to 2e-4.
    assert sinusoids(5000, 4)[4999, 0].item() == pytest.approx(math.sin(4999), abs=1e-7)


def test_an_odd_width_ends_in_a_sine():
    table = sinusoids(5, 3)
    assert table[2, 2].item() == pytest.approx(
        math.sin(2 / 10_000 ** (2 / 3)), abs=1e-7
    )
    assert sinusoids(5, 1)[4].tolist() == [pytest.approx(math.sin(4))]


def test_moving_by_a_fixed_distance_is_the_same_rotation_everywhere():
    table = sinusoids(31, 2).double()
    turn = torch.tensor(
        [[math.cos(3), math.sin(3)], [-math.sin(3), math.cos(3)]], dtype=torch.float64
    )
    torch.testing.assert_close(table[3:], table[:-3] @ turn.T, atol=1e-6, rtol=0)


def test_forward_adds_the_table_to_the_vectors():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(encoding(x) - x, sinusoids(11, 6)[:5].expand(2, 5, 6))


def test_start_shifts_the_positions():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    x = torch.randn(2, 7, 6)
    for start in range(5):
        newest = x[:, start : start + 2]
        assert torch.equal(
            encoding(newest, start=start), encoding(x)[:, start : start + 2]
        )


def test_the_last_position_of_max_len_exists():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    last = encoding(torch.zeros(1, 1, 6), start=10)
    assert torch.equal(last[0, 0], sinusoids(11, 6)[10])


def test_nothing_is_trained_and_nothing_is_stored():
    encoding = PositionalEncoding(6)
    assert list(encoding.parameters()) == []
    assert encoding.state_dict() == {}


def test_the_table_follows_the_module_to_another_dtype():
    assert PositionalEncoding(6).double().table.dtype == torch.float64


def test_dropout_is_applied_in_training_only():
    encoding = PositionalEncoding(6, dropout=0.5)
    x = torch.ones(3, 5, 6) * 10
    trained = encoding(x)
    evaluated = encoding.eval()(x)
    dropped = trained == 0
    assert dropped.any()
    torch.testing.assert_close(trained[~dropped], 2 * evaluated[~dropped])
    assert (evaluated != 0).all()
