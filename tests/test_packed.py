import copy

import pytest
import torch
from helpers import (
    BATCH,
    SRC_VOCAB,
    TGT_VOCAB,
    assert_same_weights,
    lively_model,
    random_tokens,
    small_batch,
    small_model,
    snapshot,
)
from torch import nn

from transformer import (
    END,
    PAD,
    START,
    Decoder,
    DecoderLayer,
    FeedForward,
    MultiHeadAttention,
    Transformer,
    count_parameters,
    make_batch,
    train_step,
)
from transformer.decoding import decode_uncached
from transformer.packed import PackedTransformer
from transformer.sampling import Sampler

NORMS = pytest.mark.parametrize("norm_first", [False, True])
FINAL_NORMS = pytest.mark.parametrize("final_norm", [False, True])


def sources(rows=17, pad=PAD):
    """Sources of unequal lengths, PAD at the end of some."""
    src = random_tokens(SRC_VOCAB, rows, 7, lowest=7)
    for row in range(0, rows, 2):
        src[row, 1 + row % 6 :] = pad
    return src


def generator():
    return torch.Generator().manual_seed(11)


@NORMS
@FINAL_NORMS
@pytest.mark.parametrize("padded", [False, True])
def test_the_logits_of_every_step_are_those_of_the_model(
    norm_first, final_norm, padded
):
    model = lively_model(norm_first=norm_first, final_norm=final_norm)
    packed = PackedTransformer(model)
    src = small_batch()[0] if padded else random_tokens(SRC_VOCAB, BATCH, 7)
    tgt_in = random_tokens(TGT_VOCAB, BATCH, 23)
    with torch.no_grad():
        expected_cache = model.start_cache(src, capacity=23)
        cache = packed.start_cache(src, capacity=23)
        for position in range(23):
            expected = model.next_logits(tgt_in[:, position], expected_cache)
            logits = packed.next_logits(tgt_in[:, position], cache)
            torch.testing.assert_close(logits, expected, atol=1e-10, rtol=1e-10)
            assert cache.length == position + 1


@NORMS
@FINAL_NORMS
@pytest.mark.parametrize("pad_token_id", [PAD, 6])
def test_greedy_tokens_are_those_of_the_model(norm_first, final_norm, pad_token_id):
    model = lively_model(
        norm_first=norm_first, final_norm=final_norm, pad_token_id=pad_token_id
    )
    packed = PackedTransformer(model)
    src = sources(pad=pad_token_id)
    tokens = packed.greedy_decode(src, 13, START, END)
    assert len(tokens.unique(dim=0)) > 3
    assert torch.equal(tokens, model.greedy_decode(src, 13, START, END))
    assert torch.equal(tokens, decode_uncached(model, src, 13, START, END))


@NORMS
@FINAL_NORMS
def test_sampling_from_the_same_seed_gives_the_tokens_of_the_model(
    norm_first, final_norm
):
    model = lively_model(norm_first=norm_first, final_norm=final_norm)
    packed = PackedTransformer(model)
    src = sources()
    options = {"temperature": 1.3, "top_k": 7, "top_p": 0.95}
    tokens = packed.generate(src, 13, START, END, **options, generator=generator())
    assert torch.equal(
        tokens, model.generate(src, 13, START, END, **options, generator=generator())
    )
    choose = Sampler(**options, generator=generator())
    assert torch.equal(tokens, decode_uncached(model, src, 13, START, END, choose))


@NORMS
@FINAL_NORMS
@pytest.mark.parametrize("beam_size", [1, 3])
def test_beam_search_finds_what_it_finds_with_the_model(
    norm_first, final_norm, beam_size
):
    model = lively_model(norm_first=norm_first, final_norm=final_norm)
    src = sources()
    search = (src, 13, START, END, beam_size, 0.7)
    tokens, scores = PackedTransformer(model).beam_search(*search)
    expected = model.beam_search(*search)
    assert torch.equal(tokens, expected.tokens)
    torch.testing.assert_close(scores, expected.scores, atol=1e-10, rtol=1e-10)


def test_selected_rows_go_on_as_they_would_have():
    model = lively_model()
    packed = PackedTransformer(model)
    src, rows = sources(5), torch.tensor([4, 0, 0, 2])
    tokens = random_tokens(TGT_VOCAB, 5, 3)
    with torch.no_grad():
        cache = packed.start_cache(src, capacity=3)
        chosen = packed.start_cache(src, capacity=3)
        for position in range(2):
            packed.next_logits(tokens[:, position], cache)
            packed.next_logits(tokens[:, position], chosen)
        chosen.select(rows)
        torch.testing.assert_close(
            packed.next_logits(tokens[rows, 2], chosen),
            packed.next_logits(tokens[:, 2], cache)[rows],
        )


OPTIMIZERS = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.5),
    "fused SGD": lambda weights: torch.optim.SGD(weights, lr=0.5, fused=True),
    "fused Adam": lambda weights: torch.optim.Adam(weights, lr=0.1, fused=True),
    "fused AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.1, fused=True),
    "fused Adagrad": lambda weights: torch.optim.Adagrad(weights, lr=0.1, fused=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_the_model_further_is_seen_at_the_next_decoding(optimizer):
    model = lively_model(dropout=0.0)
    packed = PackedTransformer(model)
    src = sources()
    before = packed.greedy_decode(src, 9, START, END)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    batch = make_batch([[7, 8, 9]] * 2, [[5, 6, 5], [6, 6]])
    for _ in range(3):
        train_step(model, batch, optimizer)
    after = packed.greedy_decode(src, 9, START, END)
    assert not torch.equal(after, before)
    assert torch.equal(after, model.greedy_decode(src, 9, START, END))


def write_data(linear):
    linear.weight.data.copy_(torch.randn_like(linear.weight))


def write_memory(linear):
    """As a library would that knows nothing of PyTorch's count of changes."""
    linear.weight.detach().numpy()[:] = torch.randn_like(linear.weight).detach().numpy()


def replace_parameters(linear):
    linear.weight = nn.Parameter(torch.randn_like(linear.weight))
    linear.bias = nn.Parameter(torch.randn_like(linear.bias))


def replace_data(linear):
    linear.bias.data = torch.randn_like(linear.bias)


def take_bias_away(linear):
    with torch.no_grad():
        linear.bias.fill_(1.5)
    linear.bias = None


CHANGES = (write_data, write_memory, replace_parameters, replace_data, take_bias_away)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "name",
    [
        "decoder.layers.1.self_attention.key_projection",
        "decoder.layers.2.cross_attention.query_projection",
        "decoder.layers.0.feed_forward.contract",
        "output_projection",
    ],
)
def test_a_weight_changed_in_any_way_is_seen_at_the_next_decoding(name, change, rows):
    model = lively_model().float()
    packed = PackedTransformer(model)
    assert_same_logits(packed, model, rows)
    change(model.get_submodule(name))
    assert_same_logits(packed, model, rows)


@NORMS
def test_a_module_replaced_by_another_of_its_class_is_seen_at_the_next_decoding(
    norm_first,
):
    model = lively_model(norm_first=norm_first).float()
    packed = PackedTransformer(model)
    assert_same_logits(packed, model)
    other = lively_model(norm_first=norm_first).float()
    for name in ("0.feed_forward", "1.self_attention_add_norm.norm", "2"):
        model.decoder.layers.set_submodule(
            name, other.decoder.layers.get_submodule(name)
        )
        assert_same_logits(packed, model)


def test_a_module_replaced_by_one_of_another_class_is_refused_at_the_next_decoding():
    model = lively_model()
    packed = PackedTransformer(model)
    packed.greedy_decode(sources(), 9, START, END)
    model.decoder.layers[1].feed_forward = SmoothFeedForward(14, 19).double()
    with pytest.raises(
        TypeError, match=r"^decoder\.layers\.1\.feed_forward is a Smooth"
    ):
        packed.greedy_decode(sources(), 9, START, END)
    model.decoder = BackwardDecoder(3, 14, 2, 19).double()
    with pytest.raises(TypeError, match=r"^only a Transformer with its own Decoder"):
        packed.greedy_decode(sources(), 9, START, END)


def assert_same_logits(packed, model, rows=3, **tolerance):
    """Both predict the same at three steps, whatever has been packed before."""
    src = sources(rows)
    tokens = random_tokens(TGT_VOCAB, rows, 3)
    with torch.no_grad():
        cache, expected_cache = (each.start_cache(src, 3) for each in (packed, model))
        for position in range(3):
            torch.testing.assert_close(
                packed.next_logits(tokens[:, position], cache),
                model.next_logits(tokens[:, position], expected_cache),
                **tolerance,
            )


@NORMS
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_predicts_what_the_model_predicts(dtype, rows, norm_first):
    model = lively_model(norm_first=norm_first).float()
    packed = PackedTransformer(model)
    with torch.autocast("cpu", dtype):
        # In 16 bits, other sums of the same products differ in the last digits.
        assert_same_logits(packed, model, rows, atol=0.2, rtol=0.0)
        tokens = packed.greedy_decode(sources(rows), 9, START, END)
        packed.generate(sources(rows), 9, START, END)
        packed.beam_search(sources(rows), 9, START, END)
    assert tokens.dtype == torch.int64
    assert_same_logits(packed, model, rows)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projections_without_bias_are_packed_too(dtype, rows):
    model = lively_model()
    layers = model.decoder.layers
    names = ["query_projection", "key_projection", "value_projection"]
    for name in names[:2]:
        exchange_for_one_without_bias(layers[0].self_attention, name)
    for name in [*names, "output_projection"]:
        exchange_for_one_without_bias(layers[1].cross_attention, name)
        exchange_for_one_without_bias(layers[2].self_attention, name)
    exchange_for_one_without_bias(model.decoder.layers[1].feed_forward, "expand")
    exchange_for_one_without_bias(model, "output_projection")
    model = model.to(dtype)
    assert_same_logits(PackedTransformer(model), model, rows)


def exchange_for_one_without_bias(module, name):
    old = getattr(module, name)
    setattr(module, name, nn.Linear(old.in_features, old.out_features, bias=False))


def test_weights_loaded_into_the_model_are_seen_at_the_next_decoding():
    model, other = lively_model(), lively_model()
    packed = PackedTransformer(model)
    src = sources()
    packed.greedy_decode(src, 9, START, END)
    model.load_state_dict(other.state_dict())
    assert torch.equal(
        packed.greedy_decode(src, 9, START, END),
        other.greedy_decode(src, 9, START, END),
    )


def test_decoding_leaves_weights_and_modes_as_they_were():
    model = lively_model(dropout=0.5)
    packed = PackedTransformer(model)
    src = sources()
    expected = packed.greedy_decode(src, 9, START, END)
    packed.train()
    model.decoder.layers[1].eval()
    modes = [module.training for module in packed.modules()]
    weights = snapshot(model)
    for _ in range(3):
        assert torch.equal(packed.greedy_decode(src, 9, START, END), expected)
    packed.generate(src, 9, START, END)
    packed.beam_search(src, 9, START, END)
    assert [module.training for module in packed.modules()] == modes
    assert_same_weights(model, weights)


def test_another_type_of_numbers_reaches_the_model():
    model = lively_model().float()
    packed = PackedTransformer(model).to(torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    cache = packed.start_cache(sources(), capacity=1)
    logits = packed.next_logits(torch.full((17,), START), cache)
    assert logits.dtype == torch.float64


def test_it_has_no_weights_beside_those_of_the_model():
    model = small_model()
    packed = PackedTransformer(model)
    packed.greedy_decode(sources(), 5, START, END)
    assert packed.model is model
    assert all(
        own is theirs
        for own, theirs in zip(packed.parameters(), model.parameters(), strict=True)
    )
    assert count_parameters(packed) == count_parameters(model)
    assert list(packed.state_dict()) == [f"model.{name}" for name in model.state_dict()]


def test_a_step_calls_no_module_of_a_decoder_layer():
    model = lively_model()
    packed = PackedTransformer(model)
    cache = packed.start_cache(sources(), capacity=1)
    calls = []
    for module in model.decoder.layers.modules():
        module.register_forward_pre_hook(lambda *_arguments: calls.append(1))
    packed.next_logits(torch.full((17,), START), cache)
    assert not calls


@pytest.mark.parametrize(
    "name", ["decoder.layers.1.cross_attention", "output_projection"]
)
def test_a_hook_that_would_never_be_called_is_refused_by_name(name):
    model = lively_model()
    packed = PackedTransformer(model)
    module = model.get_submodule(name)
    for register in (module.register_forward_hook, module.register_forward_pre_hook):
        handle = register(lambda *_arguments: None)
        with pytest.raises(ValueError, match=f"^{name} has a forward hook"):
            packed.greedy_decode(sources(), 9, START, END)
        handle.remove()
    packed.greedy_decode(sources(), 9, START, END)


def test_hooks_on_what_packed_decoding_does_call_are_called():
    model = lively_model()
    model.output_projection = nn.Sequential(model.output_projection)
    calls = []
    for name in ("encoder.layers.0", "output_projection"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda *_arguments, name=name: calls.append(name))
    PackedTransformer(model).greedy_decode(sources(), 2, START, END)
    assert calls == ["encoder.layers.0", "output_projection"]


def test_a_copy_lives_alone():
    packed = PackedTransformer(lively_model())
    twin = copy.deepcopy(packed)
    src = sources()
    expected = packed.greedy_decode(src, 9, START, END)
    with torch.no_grad():
        twin.model.decoder.layers[0].feed_forward.expand.weight.zero_()
    assert torch.equal(packed.greedy_decode(src, 9, START, END), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (24, START, END),
            r"^max_len \(24\) is longer than the model's max_len \(23\)",
        ),
        ((9, 13, END), r"^start_token_id \(13\) is outside the vocabulary"),
        ((9, START, PAD), r"^end_token_id \(0\) must differ from pad_token_id \(0\)"),
    ],
)
def test_what_the_model_refuses_is_refused_here_too(arguments, message):
    packed = PackedTransformer(small_model())
    for decode in (packed.greedy_decode, packed.generate, packed.beam_search):
        with pytest.raises(ValueError, match=message):
            decode(sources(), *arguments)


class SmoothFeedForward(FeedForward):
    def forward(self, x):
        return self.contract(nn.functional.gelu(self.expand(x)))


class LoudLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class SharpAttention(MultiHeadAttention):
    def split_heads(self, x):
        return 2 * super().split_heads(x)


class BackwardLayer(DecoderLayer):
    def forward(self, x, *arguments, **options):
        return -super().forward(x, *arguments, **options)


@pytest.mark.parametrize(
    ("place", "module"),
    [
        ("0.feed_forward", SmoothFeedForward(14, 19)),
        ("1.feed_forward.contract", LoudLinear(19, 14)),
        ("2.cross_attention", SharpAttention(14, 2)),
        ("2.self_attention.output_projection", LoudLinear(14, 14)),
        ("1.feed_forward_add_norm.norm", nn.RMSNorm(14)),
        ("1.feed_forward_add_norm.dropout", nn.AlphaDropout()),
        ("0", BackwardLayer(14, 2, 19)),
    ],
)
def test_a_foreign_module_in_a_decoder_layer_is_refused_by_name(place, module):
    model = small_model()
    model.decoder.layers.set_submodule(place, module)
    name = type(module).__name__
    message = rf"^decoder\.layers\.{place} is a {name}, which cannot be packed"
    with pytest.raises(TypeError, match=message):
        PackedTransformer(model)


def test_a_foreign_module_outside_the_decoder_layers_is_used_as_it_is():
    model = lively_model(final_norm=True)
    model.encoder.layers[0].feed_forward = SmoothFeedForward(14, 19).double()
    model.decoder.norm = nn.RMSNorm(14).double()
    model.output_projection = LoudLinear(14, TGT_VOCAB).double()
    src = sources()
    assert torch.equal(
        PackedTransformer(model).greedy_decode(src, 9, START, END),
        model.greedy_decode(src, 9, START, END),
    )


def test_packing_leaves_the_random_state_alone():
    model = small_model()
    before = torch.get_rng_state()
    PackedTransformer(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_packing_takes_back_no_random_number_of_another_thread(monkeypatch):
    def set_back(*_arguments):
        raise AssertionError("the random state was set back")

    for module in (torch, torch.random):
        monkeypatch.setattr(module, "set_rng_state", set_back)
    PackedTransformer(small_model()).greedy_decode(sources(), 5, START, END)


class BackwardTransformer(Transformer):
    def next_logits(self, tokens, cache):
        return -super().next_logits(tokens, cache)


class BackwardDecoder(Decoder):
    def step(self, x, cache):
        return -super().step(x, cache)


def test_what_is_no_transformer_of_this_package_is_refused():
    model = small_model()
    model.decoder = BackwardDecoder(3, 14, 2, 19).double()
    others = (
        BackwardTransformer(11, 13, 14, 2, 1, 1, 19),
        PackedTransformer(small_model()),
        model,
        None,
    )
    for other in others:
        with pytest.raises(
            TypeError, match=r"^only a Transformer with its own Decoder"
        ):
            PackedTransformer(other)


@NORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 37])
def test_every_layout_of_the_weights_gives_the_logits_of_the_model(
    norm_first, dtype, rows
):
    model = lively_model(norm_first=norm_first).to(dtype)
    packed = PackedTransformer(model)
    src = random_tokens(SRC_VOCAB, rows, 7, lowest=7)
    tgt = random_tokens(TGT_VOCAB, rows, 3, lowest=3)
    expected = model.eval()(src, tgt).detach()
    cache = packed.start_cache(src, capacity=3)
    for position in range(3):
        logits = packed.next_logits(tgt[:, position], cache)
        torch.testing.assert_close(logits, expected[:, position])


def test_only_what_has_changed_is_packed_again():
    model = lively_model()
    packed = PackedTransformer(model)

    def packing():
        cache = packed.start_cache(sources(), capacity=1)
        first = cache.packed_layers[0]
        return cache.output_projection, first.query_key_value, first.cross_query

    projection, query_key_value, query = packing()
    assert packing() == (projection, query_key_value, query)
    with torch.no_grad():
        model.decoder.layers[0].cross_attention.query_projection.bias.add_(1.0)
    assert packing()[:2] == (projection, query_key_value)
    assert packing()[2] is not query
    model.output_projection.bias = nn.Parameter(model.output_projection.bias + 1.0)
    assert packing()[0] is not projection


def test_changed_weights_of_inference_mode_are_seen_at_the_next_decoding():
    with torch.inference_mode():
        model = lively_model()
        packed = PackedTransformer(model)
        src = sources()
        before = packed.greedy_decode(src, 9, START, END)
        model.output_projection.bias[END] += 1e3
        after = packed.greedy_decode(src, 9, START, END)
        assert torch.equal(after, model.greedy_decode(src, 9, START, END))
    assert not torch.equal(after, before)


def test_what_is_packed_is_left_out_of_copies_and_files(tmp_path):
    packed = PackedTransformer(lively_model().float())
    src = sources()
    expected = packed.greedy_decode(src, 9, START, END)
    torch.save(packed, tmp_path / "packed.pt")
    loaded = torch.load(tmp_path / "packed.pt", weights_only=False)
    for twin in (copy.deepcopy(packed), loaded):
        assert not twin._packed
        assert torch.equal(twin.greedy_decode(src, 9, START, END), expected)
