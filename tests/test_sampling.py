import pytest
import torch
from helpers import decisive_model, small_batch

from transformer import END, START
from transformer.sampling import Sampler, filter_logits

# Probabilities 0.5, 0.125, 0.25, 0.125: sums of these are exact in binary.
LOGITS = torch.tensor([[0.5, 0.125, 0.25, 0.125]], dtype=torch.float64).log()


def kept(logits, **limits):
    return filter_logits(logits, **limits).isfinite().tolist()[0]


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [
        (1, [True, False, False, False]),
        (2, [True, False, True, False]),
        (3, [True, True, True, False]),  # of the tie between 1 and 3, the lower id
        (4, [True, True, True, True]),
        (400, [True, True, True, True]),
    ],
)
def test_top_k_keeps_the_k_likeliest(top_k, expected):
    assert kept(LOGITS, top_k=top_k) == expected


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (1e-9, [True, False, False, False]),  # the likeliest always stays
        (0.5, [True, False, False, False]),  # 0.5 is reached exactly
        (0.51, [True, False, True, False]),
        (0.75, [True, False, True, False]),
        (0.76, [True, True, True, False]),
        (0.875, [True, True, True, False]),
        (0.88, [True, True, True, True]),
        (1.0, [True, True, True, True]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_p(top_p, expected):
    assert kept(LOGITS, top_p=top_p) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_p_is_reached_by_a_sum_that_misses_it_by_rounding_alone(dtype):
    tenths = torch.tensor([[0.5, 0.3, 0.1, 0.1]], dtype=dtype).log()
    assert kept(tenths, top_p=0.8) == [True, True, False, False]
    assert kept(tenths, top_p=0.9) == [True, True, True, False]
    assert kept(tenths, top_p=0.801) == [True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_tokens", [7, 23, 997])
def test_top_p_keeps_as_many_tokens_as_exact_fractions_say(num_tokens, dtype):
    # Probabilities count / 5000, whole numbers, so that every sum is known exactly.
    shares = torch.ones(num_tokens).multinomial(5000 - num_tokens, replacement=True)
    counts = 1 + shares.bincount(minlength=num_tokens)
    logits = (counts.double() / 5000).to(dtype).log()[None]
    sums = counts.sort(descending=True).values.cumsum(dim=0)
    for index in range(0, num_tokens, 5):
        kept_tokens = filter_logits(logits, top_p=sums[index].item() / 5000)
        assert kept_tokens.isfinite().sum() == index + 1


def test_top_p_adds_up_what_top_k_left():
    # After top-2 the probabilities are 2/3 and 1/3, so 0.6 is reached by the first alone;
    # of all four, 0.5 would not have been enough.
    assert kept(LOGITS, top_k=2, top_p=0.6) == [True, False, False, False]
    assert kept(LOGITS, top_k=2, top_p=0.7) == [True, False, True, False]


def test_four_equally_likely_tokens_are_kept_in_the_order_of_their_ids():
    equal = torch.zeros(1, 4)
    assert kept(equal, top_k=1) == [True, False, False, False]
    assert kept(equal, top_k=3) == [True, True, True, False]
    assert kept(equal, top_p=0.5) == [True, True, False, False]
    assert kept(equal, top_p=0.51) == [True, True, True, False]


def test_logits_that_stay_keep_their_value_and_their_place():
    logits = torch.tensor([[3.0, 1, 4, 1.5], [9, 2, 6, 5]])
    filtered = filter_logits(logits, top_k=2)
    inf = float("inf")
    assert filtered.tolist() == [[3, -inf, 4, -inf], [9, -inf, 6, -inf]]
    assert logits.tolist() == [[3, 1, 4, 1.5], [9, 2, 6, 5]]


def test_each_row_is_filtered_by_its_own_distribution():
    logits = torch.stack(
        [LOGITS[0], LOGITS[0].flip(0), torch.zeros(4, dtype=torch.float64)]
    )
    filtered = filter_logits(logits, top_p=0.75).isfinite()
    assert filtered.tolist() == [
        [True, False, True, False],
        [False, True, False, True],
        [True, True, True, False],
    ]


def test_nothing_is_filtered_unless_asked():
    assert torch.equal(filter_logits(LOGITS), LOGITS)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, [0.5, 0.125, 0.25, 0.125]),
        (0.5, [16 / 22, 1 / 22, 4 / 22, 1 / 22]),  # squares: 16, 1, 4, 1 sixty-fourths
        (1e-3, [1, 0, 0, 0]),
        (1e-300, [1, 0, 0, 0]),
        (1e300, [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_temperature_is_a_power_of_the_probabilities(temperature, expected):
    probabilities = Sampler(temperature).probabilities(LOGITS)
    torch.testing.assert_close(
        probabilities, torch.tensor([expected], dtype=torch.float64)
    )


def test_temperature_two_takes_square_roots():
    roots = torch.tensor([[0.5, 0.125, 0.25, 0.125]], dtype=torch.float64).sqrt()
    torch.testing.assert_close(Sampler(2.0).probabilities(LOGITS), roots / roots.sum())


def test_temperature_comes_before_top_p():
    # At temperature 0.5 the likeliest token alone has 16/22 = 0.727, at 1 only 0.5.
    assert Sampler(0.5, top_p=0.7).probabilities(LOGITS).tolist() == [[1, 0, 0, 0]]
    assert (Sampler(1.0, top_p=0.7).probabilities(LOGITS) > 0).sum() == 2


def test_what_is_left_is_normalised():
    probabilities = Sampler(top_k=2).probabilities(LOGITS)
    expected = torch.tensor([[2 / 3, 0, 1 / 3, 0]], dtype=torch.float64)
    torch.testing.assert_close(probabilities, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-320, 1e-45, 1e-6])
def test_the_smallest_temperatures_give_no_nan(dtype, temperature):
    logits = torch.tensor([[1e4, -1e4, -float("inf"), 9e3]], dtype=dtype)
    assert Sampler(temperature).probabilities(logits).tolist() == [[1, 0, 0, 0]]


def test_tokens_are_drawn_as_often_as_their_probabilities_say():
    sampler = Sampler(generator=torch.Generator().manual_seed(0))
    counts = sampler(LOGITS.expand(20_000, 4)).bincount(minlength=4)
    # The standard deviation of the largest count is sqrt(20,000 * 0.25) = 71.
    expected = torch.tensor([10_000, 2_500, 5_000, 2_500])
    assert ((counts - expected).abs() < 5 * 71).all()


def test_ruled_out_tokens_are_never_drawn():
    sampler = Sampler(5.0, top_k=2, generator=torch.Generator().manual_seed(0))
    drawn = sampler(LOGITS.expand(5_000, 4))
    assert drawn.unique().tolist() == [0, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_of_16_bit_logits_are_computed_in_32_bits(dtype):
    logits = (torch.arange(997.0) / 100)[None].to(dtype)
    for limits in ({}, {"top_k": 101}, {"top_p": 0.9}):
        probabilities = Sampler(1.3, **limits).probabilities(logits)
        expected = Sampler(1.3, **limits).probabilities(logits.float())
        assert probabilities.dtype == torch.float32
        assert torch.equal(probabilities, expected)
    assert filter_logits(logits, top_p=0.9).dtype == dtype


@pytest.mark.parametrize("seed", [20, 146, 211])
def test_ruled_out_tokens_are_never_drawn_from_16_bit_logits(seed):
    # With these seeds, drawing in 16 bits met 0/0 once in a million numbers on x86.
    logits = torch.zeros(9973, 101, dtype=torch.float16)
    logits[:, 50:] = -torch.inf
    sampler = Sampler(generator=torch.Generator().manual_seed(seed))
    assert (sampler(logits) < 50).all()


def test_the_same_seed_draws_the_same_tokens():
    model, (src, _) = decisive_model(), small_batch()

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(src, 23, START, END, temperature=3.0, generator=generator)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_a_generator_of_ones_own_leaves_the_global_one_alone():
    model, (src, _) = decisive_model(), small_batch()
    before = torch.get_rng_state()
    model.generate(src, 9, START, END, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_seed_decides():
    model, (src, _) = decisive_model(), small_batch()
    torch.manual_seed(5)
    first = model.generate(src, 23, START, END, temperature=3.0)
    torch.manual_seed(5)
    assert torch.equal(model.generate(src, 23, START, END, temperature=3.0), first)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_top_k_of_one_equals_greedy(temperature):
    model, (src, _) = decisive_model(), small_batch()
    drawn = model.generate(src, 23, START, END, temperature=temperature, top_k=1)
    assert torch.equal(drawn, model.greedy_decode(src, 23, START, END))


def test_top_k_of_one_equals_greedy_even_among_equals():
    model, (src, _) = decisive_model(), small_batch()
    with torch.no_grad():
        model.output_projection.weight.zero_()
        model.output_projection.bias.zero_()
    drawn = model.generate(src, 5, START, END, top_k=1)
    assert torch.equal(drawn, model.greedy_decode(src, 5, START, END))


@pytest.mark.parametrize("limits", [{"temperature": 1e-9}, {"top_p": 1e-9}])
def test_the_smallest_temperature_or_top_p_equals_greedy(limits):
    model, (src, _) = decisive_model(), small_batch()
    drawn = model.generate(src, 23, START, END, **limits)
    assert torch.equal(drawn, model.greedy_decode(src, 23, START, END))


def test_a_top_k_above_the_vocabulary_is_the_vocabulary():
    model, (src, _) = decisive_model(), small_batch()

    def draw(top_k):
        generator = torch.Generator().manual_seed(1)
        return model.generate(src, 23, START, END, top_k=top_k, generator=generator)

    assert torch.equal(draw(10_000), draw(13))
    assert torch.equal(draw(10_000), draw(None))
