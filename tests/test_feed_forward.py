import torch

from transformer import FeedForward


def test_toy_numbers_match_the_arithmetic():
    network = FeedForward(2, 3)
    network.load_state_dict(
        {
            "expand.weight": torch.tensor([[1.0, 0], [0, 1], [-1, -1]]),
            "expand.bias": torch.tensor([0.0, -5, 0]),
            "contract.weight": torch.tensor([[2.0, 1, 7], [0, 3, 7]]),
            "contract.bias": torch.tensor([0.5, 1]),
        }
    )
    # x = (1, 8): expand gives (1, 8 - 5, -9), ReLU makes it (1, 3, 0),
    # contract gives (2 + 3 + 0.5, 9 + 1) = (5.5, 10).
    assert network(torch.tensor([[[1.0, 8.0]]])).tolist() == [[[5.5, 10.0]]]


def test_every_position_is_treated_alike_and_alone():
    network = FeedForward(7, 11)
    x = torch.randn(2, 5, 7)
    output = network(x)
    for position in range(5):
        torch.testing.assert_close(
            network(x[:, position : position + 1]), output[:, position : position + 1]
        )


def test_permuting_positions_permutes_the_output():
    network = FeedForward(7, 11)
    x, order = torch.randn(2, 5, 7), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(x[:, order]), network(x)[:, order])
