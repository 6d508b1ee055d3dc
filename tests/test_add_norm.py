import pytest
import torch

from transformer.add_norm import AddNorm

# Layer norm of (1, 3) is (-1, 1): mean 2, standard deviation 1.
X = torch.tensor([[[1.0, 3.0]]], dtype=torch.float64)


def add_norm(*, norm_first):
    module = AddNorm(2, dropout=0.0, norm_first=norm_first).double()
    module.norm.eps = 0.0
    return module


def test_post_norm_normalises_the_sum():
    # x + 10 (x1, 0) = (1, 3) + (30, 0) = (31, 3), whose layer norm is (1, -1).
    output = add_norm(norm_first=False)(X, lambda x: x.flip(-1) * torch.tensor([10, 0]))
    torch.testing.assert_close(
        output, torch.tensor([[[1.0, -1.0]]], dtype=torch.float64)
    )


def test_pre_norm_normalises_only_what_the_sublayer_reads():
    # The sub-layer reads (-1, 1); (1, 3) + (10, 0) = (11, 3).
    output = add_norm(norm_first=True)(X, lambda x: x.flip(-1) * torch.tensor([10, 0]))
    torch.testing.assert_close(
        output, torch.tensor([[[11.0, 3.0]]], dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("norm_first", "expected"), [(False, [1.0, 3.0]), (True, [-1.0, 1.0])]
)
def test_the_sublayer_reads_the_raw_or_the_normalised_vector(norm_first, expected):
    seen = []

    def sublayer(x):
        seen.append(x.flatten().tolist())
        return x

    add_norm(norm_first=norm_first)(X, sublayer)
    assert seen == [pytest.approx(expected)]


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_drops_the_sublayer_and_never_the_residual(norm_first):
    module = AddNorm(2, dropout=0.999999, norm_first=norm_first).double()
    x = torch.randn(3, 5, 2, dtype=torch.float64)
    expected = x if norm_first else module.norm(x)
    torch.testing.assert_close(module(x, lambda x: 100 + x), expected)


@pytest.mark.parametrize("norm_first", [False, True])
def test_evaluation_mode_switches_dropout_off(norm_first):
    dropping = AddNorm(7, dropout=0.5, norm_first=norm_first).eval()
    plain = AddNorm(7, dropout=0.0, norm_first=norm_first)
    x = torch.randn(3, 5, 7)
    assert torch.equal(dropping(x, torch.sin), plain(x, torch.sin))
    assert not torch.allclose(dropping.train()(x, torch.sin), plain(x, torch.sin))


def test_post_norm_is_the_default():
    assert AddNorm(7).norm_first is False
