import copy

import pytest
import torch
from helpers import (
    BATCH,
    SRC_LEN,
    TGT_LEN,
    decisive_model,
    small_batch,
    small_model,
)

from transformer import END, PAD, START, SelfAttention, next_token_loss
from transformer.intervention import edit_attention
from transformer.observation import (
    ShapeRecord,
    record_attention,
    record_shapes,
    shape_ledger,
)

ENCODER = ["encoder.layers.0.self_attention", "encoder.layers.1.self_attention"]
DECODER_SELF = [f"decoder.layers.{i}.self_attention" for i in range(3)]
CROSS = [f"decoder.layers.{i}.cross_attention" for i in range(3)]


def recorded():
    model = small_model()
    src, tgt_in = small_batch()
    with record_attention(model) as weights:
        model(src, tgt_in)
    return model, src, tgt_in, weights


def test_every_attention_module_is_recorded_under_its_name():
    _, _, _, weights = recorded()
    assert sorted(weights) == sorted(ENCODER + DECODER_SELF + CROSS)
    for names, query, key in (
        (ENCODER, SRC_LEN, SRC_LEN),
        (DECODER_SELF, TGT_LEN, TGT_LEN),
        (CROSS, TGT_LEN, SRC_LEN),
    ):
        assert all(weights[name].shape == (BATCH, 2, query, key) for name in names)


def test_recorded_weights_sum_to_one_for_every_query():
    _, _, _, weights = recorded()
    for tensor in weights.values():
        torch.testing.assert_close(
            tensor.sum(dim=-1), torch.ones(tensor.shape[:3]).double()
        )


def test_recorded_weights_are_zero_at_pad_and_in_the_future():
    _, src, tgt_in, weights = recorded()
    future = torch.ones(TGT_LEN, TGT_LEN).triu(diagonal=1).bool()
    src_pad, tgt_pad = ((tokens == PAD)[:, None, None] for tokens in (src, tgt_in))
    for names, hidden in (
        (ENCODER, src_pad),
        (DECODER_SELF, tgt_pad | future),
        (CROSS, src_pad),
    ):
        for name in names:
            where = hidden.expand_as(weights[name])
            assert (weights[name][where] == 0).all()
            assert (weights[name][~where] > 0).all()


def test_recorded_weights_reproduce_the_output_of_the_layer():
    model = small_model()
    src, tgt_in = small_batch()
    attention = model.decoder.layers[1].cross_attention
    seen = []
    handle = attention.register_forward_hook(
        lambda _module, inputs, output: seen.append((inputs, output))
    )
    model(src, tgt_in)
    handle.remove()
    (_, memory, _, _), (output, weights) = seen[0]
    _, values = attention.project_keys_values(memory, memory)
    again = attention.output_projection(attention.merge_heads(weights @ values))
    torch.testing.assert_close(again, output)


@pytest.mark.parametrize("record", [record_attention, record_shapes])
@pytest.mark.parametrize("norm_first", [False, True])
def test_observing_does_not_change_logits_bit_for_bit(record, norm_first):
    model = small_model(norm_first=norm_first).float()
    src, tgt_in = small_batch()
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            expected = model(src, tgt_in)
            with record(model):
                assert torch.equal(model(src, tgt_in), expected)


@pytest.mark.parametrize("record", [record_attention, record_shapes])
def test_observing_does_not_change_training_with_dropout_bit_for_bit(record):
    model = small_model(dropout=0.3).float().train()
    src, tgt_in = small_batch()
    tgt_out = tgt_in.roll(-1, dims=1)

    def gradients():
        torch.manual_seed(5)
        model.zero_grad()
        next_token_loss(model(src, tgt_in), tgt_out).backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    with record(model):
        observed = gradients()
    assert all(torch.equal(a, b) for a, b in zip(observed, expected, strict=True))


def test_observing_does_not_change_what_is_decoded():
    model, (src, _) = decisive_model(), small_batch()
    expected = model.greedy_decode(src, 9, START, END)
    with record_attention(model) as weights:
        tokens = model.greedy_decode(src, 9, START, END)
    assert torch.equal(tokens, expected)
    # The last step had one query, and read all tokens but the last.
    assert weights[DECODER_SELF[0]].shape == (BATCH, 2, 1, tokens.size(1) - 1)
    assert weights[CROSS[0]].shape == (BATCH, 2, 1, SRC_LEN)


def test_recorded_weights_carry_no_gradient():
    _, _, _, weights = recorded()
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_a_second_call_replaces_the_weights_of_the_first():
    model = small_model()
    src, tgt_in = small_batch()
    with record_attention(model) as weights:
        model(src, tgt_in)
        model(src[:1, :4], tgt_in[:1, :2])
    assert weights[CROSS[2]].shape == (1, 2, 2, 4)


def test_a_single_head_can_be_recorded_too():
    head = SelfAttention(7)
    x = torch.randn(2, 5, 7)
    with record_attention(head) as weights:
        head(x)
    assert torch.equal(weights[""], head(x, need_weights=True)[1])


def edit_nothing(model):
    return edit_attention(model, {})


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def compiled_part(model):
    model.decoder = torch.compile(model.decoder, backend="eager")
    return model


@pytest.mark.parametrize("observe", [record_attention, record_shapes, edit_nothing])
@pytest.mark.parametrize(
    ("compiled", "name"),
    [
        (lambda model: torch.compile(model, backend="eager"), "the model"),
        (compiled_in_place, "the model"),
        (compiled_part, "decoder"),
    ],
)
def test_a_compiled_model_or_part_is_refused_by_name(observe, compiled, name):
    model = compiled(small_model())
    with pytest.raises(ValueError, match=f"^{name} is compiled"), observe(model):
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_what_a_compiled_model_is_told_to_be_exchanged_for_is_observed():
    model, (src, tgt_in) = small_model(), small_batch()
    torch.compile(model, backend="eager")
    in_place = compiled_in_place(small_model())
    for plain in (model, copy.deepcopy(in_place)):
        with record_attention(plain) as weights:
            plain(src, tgt_in)
        assert sorted(weights) == sorted(ENCODER + DECODER_SELF + CROSS)


@pytest.mark.parametrize("record", [record_attention, record_shapes])
def test_no_hook_is_left_behind_even_after_an_error(record):
    model = small_model()
    with pytest.raises(KeyError), record(model):
        raise KeyError
    assert not any(module._forward_hooks for module in model.modules())


def test_nothing_is_recorded_outside_the_block():
    model = small_model()
    src, tgt_in = small_batch()
    with record_attention(model) as weights, record_shapes(model) as shapes:
        pass
    model(src, tgt_in)
    assert weights == {}
    assert shapes == []


def test_shapes_are_recorded_call_by_call_in_the_order_of_ending():
    model = small_model()
    src, tgt_in = small_batch()
    with record_shapes(model) as records:
        model(src, tgt_in)
    assert records[0] == ShapeRecord(
        "src_embedding", "Embedding", [[3, 7]], [[3, 7, 14]]
    )
    assert records[-1] == ShapeRecord("", "Transformer", [[3, 7], [3, 5]], [[3, 5, 13]])
    assert records[-2] == ShapeRecord(
        "output_projection", "Linear", [[3, 5, 14]], [[3, 5, 13]]
    )
    by_name = {record.module: record for record in records}
    cross = by_name["decoder.layers.2.cross_attention"]
    assert cross.inputs == [[3, 5, 14], [3, 7, 14], [3, 7, 14], [3, 1, 1, 7]]
    assert cross.outputs == [[3, 5, 14], [3, 2, 5, 7]]
    assert by_name["encoder"].inputs == [[3, 7, 14], [3, 1, 1, 7]]
    assert by_name["decoder"].outputs == [[3, 5, 14]]
    # The position encoding serves source and target.
    assert [r.inputs for r in records if r.module == "position_encoding"] == [
        [[3, 7, 14]],
        [[3, 5, 14]],
    ]


def test_shapes_of_tensors_passed_by_keyword_are_recorded_behind_the_others():
    model = small_model()
    src, tgt_in = small_batch()
    with record_shapes(model) as records:
        model(src, tgt_in=tgt_in)
        model.next_logits(tgt_in[:, 0], model.start_cache(src, capacity=1))
    calls = {record.module: record.inputs for record in records}
    assert calls[""] == [[3, 7], [3, 5]]
    # One new vector a row, and the mask of the source.
    assert calls["decoder.layers.0"] == [[3, 1, 14], [3, 1, 1, 7]]


CROSS_CALL = ShapeRecord(
    "cross",
    "MultiHeadAttention",
    [[3, 7, 16], [3, 5, 16], [3, 5, 16], [3, 1, 1, 5]],
    [[3, 7, 16], [3, 2, 7, 5]],
)
NAMES = {2: "heads", 3: "batch", 5: "source", 7: "target", 16: "d_model"}


def test_the_ledger_has_a_line_a_tensor_in_names_and_numbers():
    assert shape_ledger([CROSS_CALL], NAMES).splitlines() == [
        "cross: MultiHeadAttention",
        "  [batch, target, d_model] [3, 7, 16]   -> "
        "[batch, target, d_model]       [3, 7, 16]",
        "  [batch, source, d_model] [3, 5, 16]      "
        "[batch, heads, target, source] [3, 2, 7, 5]",
        "  [batch, source, d_model] [3, 5, 16]",
        "  [batch, 1, 1, source]    [3, 1, 1, 5]",
    ]


def test_the_columns_of_the_ledger_are_aligned_over_all_records():
    embedding = ShapeRecord("src_embedding", "Embedding", [[3, 5]], [[3, 5, 16]])
    lines = shape_ledger([embedding, CROSS_CALL], NAMES).splitlines()
    assert len(lines) == 2 + 5
    assert lines[0] == "src_embedding: Embedding"
    assert lines[1] == (
        "  [batch, source]          [3, 5]       -> "
        "[batch, source, d_model]       [3, 5, 16]"
    )
    assert lines[1].index("->") == lines[3].index("->")


def test_the_ledger_can_be_printed_where_only_ascii_can():
    assert shape_ledger([CROSS_CALL], NAMES).isascii()


def test_the_ledger_of_a_real_model_agrees_with_its_shapes():
    model = small_model()
    src, tgt_in = small_batch()
    names = {3: "batch", 7: "source", 5: "target", 14: "d_model", 13: "tgt_vocab"}
    with record_shapes(model) as records:
        model(src, tgt_in)
    ledger = shape_ledger(records, names)
    lines = [" ".join(line.split()) for line in ledger.splitlines()]
    at = lines.index("Transformer")
    assert lines[at + 1 :] == [
        "[batch, source] [3, 7] -> [batch, target, tgt_vocab] [3, 5, 13]",
        "[batch, target] [3, 5]",
    ]
    at = lines.index("decoder.layers.2.cross_attention: MultiHeadAttention")
    assert lines[at + 2] == (
        "[batch, source, d_model] [3, 7, 14] [batch, 2, target, source] [3, 2, 5, 7]"
    )
    assert max(map(len, ledger.splitlines())) <= 88


def test_sizes_without_a_name_stay_numbers_and_names_may_repeat():
    record = ShapeRecord("", "Linear", [[4, 9]], [[4, 6]])
    assert shape_ledger([record], {}) == "Linear\n  [4, 9] [4, 9] -> [4, 6] [4, 6]"
    both = {9: "features", 6: "features"}
    assert shape_ledger([record], both) == (
        "Linear\n  [4, features] [4, 9] -> [4, features] [4, 6]"
    )


def test_a_call_without_tensors_and_a_single_number_have_their_lines():
    nothing = ShapeRecord("loss", "Loss", [], [[]])
    assert shape_ledger([nothing], {}) == "loss: Loss\n    -> [] []"
    assert shape_ledger([ShapeRecord("a", "B", [], [])], {}) == "a: B\n    ->"


@pytest.mark.parametrize(
    ("records", "names", "error", "message"),
    [
        ([], NAMES, ValueError, "records must hold at least one call, got none"),
        ([CROSS_CALL], {0: "batch"}, ValueError, "at least 1, got 0 for 'batch'"),
        ([CROSS_CALL], {-3: "batch"}, ValueError, "at least 1, got -3 for 'batch'"),
        ([CROSS_CALL], {"batch": 3}, TypeError, "sizes to names, got 'batch': 3"),
    ],
)
def test_the_ledger_refuses_what_it_cannot_lay_out(records, names, error, message):
    with pytest.raises(error, match=message):
        shape_ledger(records, names)
