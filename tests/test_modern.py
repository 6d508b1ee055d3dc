"""The modern parts of companion C, which the benchmarks use as well."""

import ast
import inspect

import pytest
import torch
import torch.nn.functional as F
from helpers import defined_in, small_batch, small_model
from torch import nn

from benchmarks import modern
from transformer import END, PAD, START, FeedForward, count_parameters
from transformer.attention import MultiHeadAttention
from transformer.decoding import decode_uncached
from transformer.observation import record_attention
from transformer.position_encoding import PositionalEncoding, sinusoids

# Unlike those of `small_model`, whose heads are seven wide, these have whole hands.
SIZES = {"d_model": 12, "num_heads": 3}
CHANGES = [
    modern.with_rms_norm,
    modern.with_gates,
    modern.with_gelu,
    modern.with_learned_positions,
    modern.with_rotary_positions,
    modern.with_tied_embedding,
]
each_change = pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)


def bare(node):
    """The definition without what a chapter leaves out: docstrings and annotations."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            if isinstance(part, ast.FunctionDef):
                part.returns = None
            if ast.get_docstring(part) is not None:
                part.body = part.body[1:]
        elif isinstance(part, ast.arg):
            part.annotation = None
    return ast.dump(node)


@pytest.mark.parametrize(
    "name",
    [
        "exchange",
        "RMSNorm",
        "Activated",
        "SwiGLU",
        "LearnedPositions",
        "NoPositions",
        "turn",
    ],
)
def test_the_chapter_shows_the_parts_that_are_measured(name):
    (shown,) = defined_in("companion_c_anatomy", name)
    source = ast.parse(inspect.getsource(modern))
    (measured,) = (s for s in source.body if getattr(s, "name", None) == name)
    assert bare(shown) == bare(measured)


def test_the_chapters_rotary_attention_computes_what_the_measured_one_does():
    statements = defined_in("companion_c_anatomy", "turn", "RotaryAttention")
    names = {
        "F": F,
        "torch": torch,
        "sinusoids": sinusoids,
        "MultiHeadAttention": MultiHeadAttention,
        "attention_weights": modern.attention_weights,
    }
    exec(compile(ast.Module(statements, []), "chapter", "exec"), names)
    shown, measured = names["RotaryAttention"](12, 3), modern.RotaryAttention(12, 3)
    shown.load_state_dict(measured.state_dict())
    x = torch.randn(2, 5, 12)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    for one, other in zip(
        shown(x, x, x, mask, need_weights=True),
        measured(x, x, x, mask, need_weights=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@each_change
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_changed_model_still_sees_no_future_ignores_pad_and_has_a_cache(
    change, norm_first
):
    model = small_model(**SIZES, norm_first=norm_first)
    before = model(*small_batch())
    assert change(model) > 0
    model.double()
    src, tgt_in = small_batch()
    logits = model(src, tgt_in)
    assert logits.shape == before.shape
    later = tgt_in.clone()
    later[:, 3:] = 5
    torch.testing.assert_close(model(src, later)[:, :3], logits[:, :3])
    torch.testing.assert_close(model(F.pad(src, (0, 2), value=PAD), tgt_in), logits)
    decoded = model.greedy_decode(src, 9, START, END)
    assert torch.equal(decoded, decode_uncached(model, src, 9, START, END))


@each_change
def test_every_weight_of_a_changed_model_is_trained(change):
    model = small_model(**SIZES)
    change(model)
    model.double()(*small_batch()).square().sum().backward()
    # The keys' bias does nothing, as softmax does not see it.
    untrained = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None and "key_projection.bias" not in name
    ]
    assert untrained == []


def test_how_many_parts_there_are():
    # 2 encoder layers with 2 norms each, 3 decoder layers with 3 each, and two last norms.
    model = small_model(**SIZES, norm_first=True)
    assert modern.with_rms_norm(model) == 2 * 2 + 3 * 3 + 2
    assert modern.with_gates(model) == 5
    assert modern.with_rotary_positions(model) == 5
    assert not any(isinstance(m, nn.LayerNorm) for m in model.modules())
    assert not any(isinstance(m, PositionalEncoding) for m in model.modules())
    assert not any(isinstance(m, FeedForward) for m in model.modules())


def test_rms_norm_is_pytorchs_and_a_layer_norm_of_what_has_no_mean():
    x = torch.randn(3, 5, 7, dtype=torch.float64) + 2
    norm = modern.RMSNorm(7).double()
    nn.init.normal_(norm.weight)
    theirs = nn.RMSNorm(7, eps=1e-5).double()
    theirs.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), theirs(x))
    centred = x - x.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(
        norm(centred), F.layer_norm(x, (7,), norm.weight, eps=1e-5)
    )
    assert not torch.allclose(norm(x), F.layer_norm(x, (7,), norm.weight))


def test_a_gate_of_two_thirds_keeps_the_number_of_weights():
    model = small_model(**SIZES, d_ff=96)
    before = sum(w.numel() for w in model.parameters() if w.dim() == 2)
    modern.with_gates(model)
    assert sum(w.numel() for w in model.parameters() if w.dim() == 2) == before


def test_a_gate_by_hand():
    gate = modern.SwiGLU(1, 1)
    for weight, value in zip(gate.parameters(), (2.0, 3.0, 5.0), strict=True):
        nn.init.constant_(weight, value)
    # The gate gives silu of 2, the two other maps multiply by 3 and by 5.
    expected = 2 / (1 + torch.exp(torch.tensor(-2.0))) * 15
    torch.testing.assert_close(gate(torch.ones(1)), expected[None])


def test_learned_positions_begin_as_the_sinusoids_and_then_move():
    model = small_model(**SIZES)
    before = model(*small_batch())
    modern.with_learned_positions(model)
    model.double()
    torch.testing.assert_close(model(*small_batch()).shape, before.shape)
    table = model.position_encoding.table
    torch.testing.assert_close(table.detach(), sinusoids(*table.shape).double())
    assert table.requires_grad


def test_turned_hands_keep_their_length_and_scores_depend_on_distance_alone():
    query, key = torch.randn(2, 9, 6, dtype=torch.float64)
    scores = modern.turn(query) @ modern.turn(key).T
    torch.testing.assert_close(modern.turn(query).norm(dim=1), query.norm(dim=1))
    later = modern.turn(query, 41) @ modern.turn(key, 41).T
    torch.testing.assert_close(scores, later)
    apart = modern.turn(query, 1) @ modern.turn(key).T
    assert not torch.allclose(scores, apart)
    torch.testing.assert_close(modern.turn(query[:1]), query[:1])
    up = torch.tensor([0.0, 1.0]).repeat(9, 3)
    torch.testing.assert_close(modern.turn(up, 4), sinusoids(13, 6, start=4))


def test_a_rotary_model_is_observed_like_any_other():
    model = small_model(**SIZES)
    modern.with_rotary_positions(model)
    model.double()
    src, tgt_in = small_batch()
    with record_attention(model) as weights:
        model(src, tgt_in)
    name = "encoder.layers.0.self_attention"
    torch.testing.assert_close(
        weights[name].sum(dim=-1), torch.ones(3, 3, 7, dtype=torch.float64)
    )


def test_a_tied_matrix_counts_once_and_its_gradient_is_the_sum_of_both_uses():
    apart = small_model(**SIZES)
    with torch.no_grad():
        apart.output_projection.weight.copy_(apart.tgt_embedding.weight)
    tied = small_model(**SIZES)
    tied.load_state_dict(apart.state_dict())
    modern.with_tied_embedding(tied)
    for model in (apart, tied):
        model(*small_batch_of(0)).square().sum().backward()
    saved = count_parameters(apart) - count_parameters(tied)
    assert saved == apart.tgt_embedding.weight.numel()
    torch.testing.assert_close(
        tied.tgt_embedding.weight.grad,
        apart.tgt_embedding.weight.grad + apart.output_projection.weight.grad,
    )


def small_batch_of(seed):
    torch.manual_seed(seed)
    return small_batch()
