"""What the checks of companion A hold to be right, found in another way."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from transformer import Encoder, attention
from transformer.exercises import one_head
from transformer.feed_forward import FeedForward


def solve(check, *arguments):
    return check.solution(*arguments)


def cases(check):
    return [pytest.param(*case, id=str(n)) for n, case in enumerate(check.cases())]


@pytest.mark.parametrize(("num_keys", "weight"), cases(one_head.check_lead))
def test_the_lead_gives_the_weight(num_keys, weight):
    scores = torch.zeros(num_keys, dtype=torch.float64)
    scores[0] = solve(one_head.check_lead, num_keys, weight)
    assert scores.softmax(dim=-1)[0].item() == pytest.approx(weight)


@pytest.mark.parametrize(("first", "second"), cases(one_head.check_same_shares))
def test_bags_look_alike_if_a_random_head_takes_home_the_same(first, second):
    vectors = torch.randn(4, 5, dtype=torch.float64)
    query = torch.randn(1, 5, dtype=torch.float64)

    def taken_home(tokens):
        bag = vectors[["abcd".index(token) for token in tokens]]
        return attention.attention_weights(query, bag) @ bag

    alike = torch.allclose(taken_home(first), taken_home(second))
    assert alike == solve(one_head.check_same_shares, first, second)


@pytest.mark.parametrize(
    ("weights", "gradient"), cases(one_head.check_softmax_gradient)
)
def test_the_gradient_of_the_scores_is_that_of_autograd(weights, gradient):
    scores = weights.double().log().requires_grad_()
    (scores.softmax(dim=-1) * gradient.double()).sum().backward()
    found = solve(one_head.check_softmax_gradient, weights.double(), gradient.double())
    torch.testing.assert_close(found, scores.grad)


@pytest.mark.parametrize("documents", cases(one_head.check_document_mask))
def test_each_entry_of_the_document_mask_follows_from_its_sentence(documents):
    mask = solve(one_head.check_document_mask, documents)
    numbers = documents.tolist()
    for row, column in itertools.product(range(len(numbers)), repeat=2):
        allowed = numbers[row] == numbers[column] != 0 and column <= row
        assert mask[row, column].item() == allowed


@pytest.mark.parametrize(("mask", "num_layers"), cases(one_head.check_reach))
def test_whom_a_position_hears_has_a_gradient(mask, num_layers):
    x = torch.randn(1, len(mask), 6, dtype=torch.float64, requires_grad=True)
    encoder = Encoder(max(num_layers, 1), 6, 2, 7, dropout=0.0).double()
    out = x
    for layer in encoder.layers[:num_layers]:
        out = layer(out, mask)
    reach = solve(one_head.check_reach, mask, num_layers)
    for row in range(len(mask)):
        felt = out[0, row] @ torch.randn(6, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(felt, x, retain_graph=True)
        assert torch.equal(gradient[0].abs().amax(dim=-1) > 0, reach[row])


def test_merged_halves_are_the_whole():
    scores = 1_000 * torch.randn(3, 7, dtype=torch.float64)
    values = torch.randn(7, 2, dtype=torch.float64)

    def triple(keys):
        top = scores[:, keys].amax(dim=1, keepdim=True)
        powers = (scores[:, keys] - top).exp()
        return top, powers.sum(dim=1, keepdim=True), powers @ values[keys]

    halves = triple(slice(0, 3)), triple(slice(3, 7))
    merged = solve(one_head.check_merge, *halves)
    torch.testing.assert_close(merged, triple(slice(0, 7)))
    swapped = solve(one_head.check_merge, *reversed(halves))
    torch.testing.assert_close(swapped, merged)


def test_at_the_crossover_pytorch_counts_the_same():
    d_model, d_ff = 12, 88
    length = solve(one_head.check_crossover, d_model, d_ff)
    assert length == 20
    with torch.device("meta"):
        heads = attention.MultiHeadAttention(d_model, 3)
        feed_forward = FeedForward(d_model, d_ff)
        x = torch.empty(1, int(length), d_model)
        memory = torch.empty(1, int(length), d_model)
    with FlopCounterMode(display=False) as attending:
        heads(x, x, x)
        heads(x, memory, memory)
    with FlopCounterMode(display=False) as feeding:
        feed_forward(x)
    assert attending.get_total_flops() == feeding.get_total_flops() > 0


@pytest.mark.parametrize("length", range(1, 9))
def test_letters_go_to_where_slices_put_them(length):
    dealt = [None] * length
    for position in range(length):
        dealt[solve(one_head.check_goes_to, position, length - 1)] = position
    assert dealt == [*range(0, length, 2), *range(1, length, 2)]
