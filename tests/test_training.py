import copy
import itertools
import math
import signal
import threading

import numpy as np
import pytest
import torch
from helpers import (
    SRC_VOCAB,
    TGT_VOCAB,
    TableModel,
    assert_same_weights,
    random_tokens,
    small_model,
    snapshot,
)
from torch.utils.data import DataLoader, TensorDataset

from transformer import (
    END,
    PAD,
    START,
    Batch,
    History,
    evaluate,
    make_batch,
    next_token_loss,
    token_accuracy,
    train,
    train_step,
    warmup_rate,
    warmup_schedule,
)
from transformer.batching import in_parts
from transformer.loss import summed_loss
from transformer.training import Evaluation, TrainingRun

# Softmax of the first row is (1/4, 1/4, 1/2), of the second (1/2, 1/4, 1/4).
LOGITS = torch.tensor([[[1.0, 1, 2], [2, 1, 1], [1, 1, 2]]]).log()


def batches(seed=0, batch_size=3):
    """Copying rows of unequal length, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        lengths = torch.randint(2, 6, (batch_size,), generator=generator).tolist()
        rows = [
            torch.randint(3, 11, (n,), generator=generator).tolist() for n in lengths
        ]
        yield make_batch(rows, rows)


def some_batches(count, seed=0):
    return list(itertools.islice(batches(seed), count))


def test_loss_is_the_mean_negative_log_probability_of_the_right_tokens():
    # The right tokens have 1/2, 1/4 and 1/4: (log 2 + log 4 + log 4) / 3.
    loss = next_token_loss(LOGITS, torch.tensor([[2, 1, 1]]))
    assert loss.item() == pytest.approx(5 * math.log(2) / 3)


def test_loss_leaves_pad_out_of_sum_and_count():
    # Left are 1/2 and 1/4: (log 2 + log 4) / 2.
    loss = next_token_loss(LOGITS, torch.tensor([[2, 0, 1]]))
    assert loss.item() == pytest.approx(3 * math.log(2) / 2)


def test_loss_leaves_out_whatever_id_is_pad():
    # PAD is 2: left is the third token, id 0, with 1/4.
    loss = next_token_loss(LOGITS, torch.tensor([[2, 2, 0]]), pad_token_id=2)
    assert loss.item() == pytest.approx(math.log(4))


def test_every_token_of_a_batch_weighs_the_same():
    logits, tgt_out = torch.randn(3, 5, 13), random_tokens(13, 3, 5)
    tgt_out[0, 1:] = PAD
    real = tgt_out != PAD
    picked = logits.log_softmax(-1).gather(2, tgt_out[:, :, None])[:, :, 0][real]
    torch.testing.assert_close(next_token_loss(logits, tgt_out), -picked.mean())


def test_logits_at_pad_get_no_gradient():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    next_token_loss(logits, torch.tensor([[3, 0, 0], [4, 2, 0]])).backward()
    assert (logits.grad != 0).any(dim=-1).tolist() == [
        [True, False, False],
        [True, True, False],
    ]


def test_accuracy_counts_real_tokens_only():
    # The likeliest are 2, 0, 2. Right: the first; wrong: the third; PAD: the second,
    # though its likeliest token is PAD too.
    accuracy = token_accuracy(LOGITS, torch.tensor([[2, 0, 1]]))
    assert accuracy.item() == 0.5


def test_accuracy_leaves_out_whatever_id_is_pad():
    # With PAD 2, the real tokens are 0 (right) and 1 (wrong: the likeliest is 2).
    accuracy = token_accuracy(LOGITS, torch.tensor([[2, 0, 1]]), pad_token_id=2)
    assert accuracy.item() == 0.5
    assert token_accuracy(LOGITS, torch.tensor([[2, 0, 2]]), pad_token_id=2).item() == 1


def test_a_step_is_the_optimizers_step_on_the_gradient_of_the_loss():
    model = small_model(dropout=0.0)
    twin = copy.deepcopy(model)
    batch = next(batches())
    result = train_step(
        model, batch, torch.optim.SGD(model.parameters(), lr=0.1), clip_norm=None
    )

    loss = next_token_loss(twin(batch.src, batch.tgt_in), batch.tgt_out)
    loss.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.parameters()))
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    assert result.gradient_norm == pytest.approx(norm, rel=1e-9)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_clipping_shortens_the_gradient_to_the_norm_asked_for(share):
    model = small_model(dropout=0.0)
    batch = next(batches())
    before = snapshot(model)
    idle = torch.optim.SGD(model.parameters(), lr=0.0)
    norm = train_step(model, batch, idle, clip_norm=None).gradient_norm
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    result = train_step(model, batch, optimizer, clip_norm=share * norm)
    moved = sum(
        (before[n] - p).square().sum().item() for n, p in model.named_parameters()
    )
    assert result.gradient_norm == pytest.approx(norm)
    assert math.sqrt(moved) == pytest.approx(share * norm, rel=1e-4)


def test_a_gradient_below_the_norm_is_left_as_it_is():
    clipped = small_model(dropout=0.0)
    free = copy.deepcopy(clipped)
    batch = next(batches())
    for model, clip_norm in ((clipped, 1e6), (free, None)):
        train_step(model, batch, torch.optim.SGD(model.parameters(), lr=1.0), clip_norm)
    assert_same_weights(clipped, snapshot(free))


def test_gradients_of_an_earlier_step_do_not_linger():
    model = small_model(dropout=0.0)
    batch = next(batches())
    idle = torch.optim.SGD(model.parameters(), lr=0.0)
    norms = [train_step(model, batch, idle).gradient_norm for _ in range(3)]
    assert norms == pytest.approx([norms[0]] * 3)


def test_a_step_trains_with_dropout_even_after_evaluation():
    model = small_model(dropout=0.5).eval()
    idle = torch.optim.SGD(model.parameters(), lr=0.0)
    batch = next(batches())
    losses = {train_step(model, batch, idle).loss for _ in range(3)}
    assert len(losses) == 3
    assert model.training


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_diverged_step_raises_and_leaves_the_weights_as_they_were(poison):
    model = small_model(dropout=0.0)
    with torch.no_grad():
        model.output_projection.bias[4] = poison
    before = snapshot(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(
        FloatingPointError, match=r"loss (nan|inf) .* training has diverged"
    ):
        train_step(model, next(batches()), optimizer)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


def test_the_models_own_pad_is_left_out_of_the_step():
    model = small_model(dropout=0.0, pad_token_id=7)
    rows = [[3, 4, 5], [6]]
    batch = make_batch(rows, rows, pad_token_id=7)
    idle = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = train_step(model, batch, idle).loss
    expected = next_token_loss(
        model(batch.src, batch.tgt_in), batch.tgt_out, pad_token_id=7
    )
    assert loss == pytest.approx(expected.item())
    assert evaluate(model, [batch]).loss == pytest.approx(expected.item())


def test_evaluation_weighs_every_token_of_all_batches_alike():
    # After START comes 3 with 1/2, else 4; after 3 comes END with 1/4, else 5.
    table = torch.full((1, 6, 6), 1e-9)
    table[0, START, 3], table[0, START, 4] = 0.5, 0.5 - 1e-6
    table[0, 3, END], table[0, 3, 5] = 0.25, 0.75
    one = Batch(*(torch.tensor(rows) for rows in ([[0]], [[START]], [[3]])))
    two = Batch(
        *(torch.tensor(rows) for rows in ([[0]], [[START, 3, PAD]], [[3, END, PAD]]))
    )
    model = TableModel(table)
    model.weight = torch.nn.Parameter(torch.zeros(1))
    result = evaluate(model, [one, two])
    # Probabilities of the three real tokens: 1/2, 1/2, 1/4; the likeliest are 3, 3, 5.
    assert result.loss == pytest.approx(4 * math.log(2) / 3, rel=1e-5)
    assert result.accuracy == pytest.approx(2 / 3, rel=1e-6)


def test_evaluation_switches_dropout_off_and_restores_the_mode():
    model = small_model(dropout=0.5).train()
    held_out = some_batches(2)
    first, second = evaluate(model, held_out), evaluate(model, held_out)
    assert first == second
    assert model.training
    assert evaluate(model.eval(), held_out) == first
    assert not model.training


def test_evaluation_changes_no_weight_and_no_random_state():
    model = small_model(dropout=0.5).train()
    before, state = snapshot(model), torch.get_rng_state()
    evaluate(model, some_batches(2))
    assert_same_weights(model, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_agrees_with_the_loss_and_accuracy_of_one_batch():
    model, batch = small_model(), next(batches())
    logits = model(batch.src, batch.tgt_in)
    result = evaluate(model, [batch])
    assert result.loss == pytest.approx(next_token_loss(logits, batch.tgt_out).item())
    assert result.accuracy == pytest.approx(
        token_accuracy(logits, batch.tgt_out).item()
    )


def test_gradients_of_single_examples_are_those_of_batches_of_one():
    model = small_model(dropout=0.0)
    src, tgt_in, tgt_out = next(batches())
    parameters = dict(model.named_parameters())

    def loss(parameters, src, tgt_in, tgt_out):
        inputs = (src[None], tgt_in[None])
        logits = torch.func.functional_call(model, parameters, inputs)
        return next_token_loss(logits, tgt_out[None])

    # PyTorch's fused attention warns that it loops over the examples.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        of_each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, 0))
        gradients = of_each(parameters, src, tgt_in, tgt_out)
    for row in range(len(src)):
        model.zero_grad()
        one = slice(row, row + 1)
        next_token_loss(model(src[one], tgt_in[one]), tgt_out[one]).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][row], parameter.grad)


def test_training_is_one_step_after_another():
    model = small_model(dropout=0.2)
    twin = copy.deepcopy(model)
    torch.manual_seed(3)
    history = train(
        model,
        batches(),
        torch.optim.Adam(model.parameters(), lr=1e-3),
        4,
        progress=False,
    )
    torch.manual_seed(3)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    results = [train_step(twin, batch, optimizer) for batch in some_batches(4)]
    assert history.loss == [result.loss for result in results]
    assert history.gradient_norm == [result.gradient_norm for result in results]
    assert history.learning_rate == [1e-3] * 4
    assert history.num_steps == 4
    assert history.stopped_early is False
    assert_same_weights(model, snapshot(twin))
    assert model.training


def test_training_clips_at_the_norm_asked_for():
    model = small_model(dropout=0.0)
    before = snapshot(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train(model, batches(), optimizer, 1, clip_norm=0.01, progress=False)
    moved = sum(
        (before[n] - p).square().sum().item() for n, p in model.named_parameters()
    )
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


def test_the_scheduler_advances_once_a_step_and_the_first_step_has_its_first_rate():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = warmup_schedule(optimizer, 14, warmup_steps=3)
    history = train(model, batches(), optimizer, 7, scheduler=schedule, progress=False)
    expected = [warmup_rate(step, 14, 3) for step in range(1, 8)]
    assert history.learning_rate == pytest.approx(expected)


def test_training_takes_no_more_batches_than_steps():
    source = iter(some_batches(5))
    model = small_model()
    train(model, source, torch.optim.SGD(model.parameters(), lr=0.1), 3, progress=False)
    assert len(list(source)) == 2


def test_held_out_batches_are_evaluated_at_the_interval_and_at_the_end():
    model, held_out = small_model(), some_batches(2, seed=9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = train(
        model,
        batches(),
        optimizer,
        7,
        held_out=held_out,
        evaluate_every=3,
        progress=False,
    )
    assert history.held_out_steps == [3, 6, 7]
    final = evaluate(model, held_out)
    assert history.held_out_loss[-1] == final.loss
    assert history.held_out_accuracy[-1] == final.accuracy
    assert len(history.held_out_loss) == len(history.held_out_accuracy) == 3


def test_the_last_step_is_evaluated_once():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = train(
        model,
        batches(),
        optimizer,
        6,
        held_out=some_batches(1),
        evaluate_every=3,
        progress=False,
    )
    assert history.held_out_steps == [3, 6]


def test_evaluating_held_out_batches_does_not_change_training():
    with_held_out = small_model(dropout=0.2)
    without = copy.deepcopy(with_held_out)
    for model, held_out in ((with_held_out, some_batches(2, seed=9)), (without, None)):
        torch.manual_seed(3)
        optimizer = torch.optim.Adam(model.parameters())
        train(
            model,
            batches(),
            optimizer,
            4,
            held_out=held_out,
            evaluate_every=1,
            progress=False,
        )
    assert_same_weights(with_held_out, snapshot(without))


def scripted_evaluations(monkeypatch, losses):
    """Let `evaluate` report `losses`; return a snapshot of the weights at each call."""
    seen = []
    script = iter(losses)

    def report(model, _batches):
        seen.append(snapshot(model))
        return Evaluation(next(script), 0.5)

    monkeypatch.setattr("transformer.training.evaluate", report)
    return seen


def train_with_patience(model, num_steps, patience, evaluate_every=1):
    return train(
        model,
        batches(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        num_steps,
        held_out=some_batches(1),
        evaluate_every=evaluate_every,
        patience=patience,
        progress=False,
    )


def test_training_stops_after_patience_evaluations_without_a_lower_loss(monkeypatch):
    model = small_model()
    seen = scripted_evaluations(monkeypatch, [3.0, 2.0, 2.5, 1.0, 1.5, 1.0, 0.1])
    history = train_with_patience(model, num_steps=30, patience=2, evaluate_every=3)
    # Best at the fourth evaluation; the fifth and sixth do not fall below it.
    assert history.held_out_steps == [3, 6, 9, 12, 15, 18]
    assert history.num_steps == 18
    assert history.best_step == 12
    assert history.stopped_early is True
    assert_same_weights(model, seen[3])
    assert model.training


def test_stopping_early_puts_the_best_weights_back_and_not_the_last(monkeypatch):
    model = small_model()
    seen = scripted_evaluations(monkeypatch, [1.0, 2.0, 3.0])
    train_with_patience(model, num_steps=30, patience=2)
    assert_same_weights(model, seen[0])
    assert not torch.equal(
        seen[0]["output_projection.bias"], seen[2]["output_projection.bias"]
    )


def test_patience_puts_the_best_weights_back_even_without_stopping(monkeypatch):
    model = small_model()
    seen = scripted_evaluations(monkeypatch, [3.0, 1.0, 2.0])
    history = train_with_patience(model, num_steps=3, patience=5)
    assert history.stopped_early is False
    assert history.best_step == 2
    assert_same_weights(model, seen[1])


def test_without_patience_the_last_weights_stay(monkeypatch):
    model = small_model()
    seen = scripted_evaluations(monkeypatch, [1.0, 2.0, 3.0])
    history = train_with_patience(model, num_steps=3, patience=None)
    assert history.num_steps == 3
    assert history.stopped_early is False
    assert_same_weights(model, seen[2])


def test_training_that_takes_every_step_has_not_stopped_early(monkeypatch):
    scripted_evaluations(monkeypatch, [1.0, 2.0, 3.0])
    history = train_with_patience(small_model(), num_steps=3, patience=2)
    assert history.num_steps == 3
    assert history.stopped_early is False


def test_the_best_step_is_the_first_with_the_lowest_held_out_loss():
    history = History(
        held_out_steps=[10, 20, 30, 40], held_out_loss=[2.0, 0.5, 0.75, 0.5]
    )
    assert history.best_step == 20
    assert History().best_step is None


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def test_parts_that_the_optimizer_does_not_hold_neither_pile_up_nor_count():
    model = small_model(dropout=0.0)
    batch = next(batches())
    output = list(model.output_projection.parameters())
    idle = torch.optim.SGD(output, lr=0.0)
    norms = [train_step(model, batch, idle, clip_norm=None)[1] for _ in range(3)]
    of_output = math.sqrt(sum(p.grad.square().sum().item() for p in output))
    assert norms == pytest.approx([of_output] * 3)
    once = model.src_embedding.weight.grad.clone()
    train_step(model, batch, idle)
    torch.testing.assert_close(model.src_embedding.weight.grad, once)


def test_clipping_shortens_the_step_that_is_taken_and_no_other_part_counts():
    model = small_model(dropout=0.0)
    output = list(model.output_projection.parameters())
    before = snapshot(model)
    optimizer = torch.optim.SGD(output, lr=1.0)
    norm = train_step(model, next(batches()), optimizer, clip_norm=1e-3).gradient_norm
    moved = sum(
        (before[n] - p).square().sum().item() for n, p in model.named_parameters()
    )
    assert norm > 1e-2
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=1e-3)


def test_gradients_of_parameters_outside_the_model_do_not_linger():
    model, outside = small_model(dropout=0.0), torch.nn.Parameter(torch.ones(3))
    outside.grad = torch.full((3,), 1e3)
    optimizer = torch.optim.SGD([*model.parameters(), outside], lr=0.1)
    assert train_step(model, next(batches()), optimizer).gradient_norm < 100
    assert torch.equal(outside, torch.ones(3))


def test_a_model_in_training_mode_keeps_the_modes_of_its_parts():
    model = small_model().train()
    model.encoder.eval()
    train(model, batches(), sgd(model), 2, held_out=some_batches(1), progress=False)
    assert model.training
    assert not any(module.training for module in model.encoder.modules())
    assert all(module.training for module in model.decoder.modules())


def test_frozen_parts_of_a_model_in_evaluation_mode_stay_in_it():
    model = small_model().eval()
    model.encoder.requires_grad_(False)
    model.decoder.layers[1].feed_forward.expand.requires_grad_(False)
    train_step(model, next(batches()), sgd(model))
    still = {name for name, module in model.named_modules() if not module.training}
    frozen = "decoder.layers.1.feed_forward.expand"
    assert still == {
        name
        for name, _ in model.named_modules()
        if name.split(".")[0] == "encoder" or name == frozen
    }


def triples(count):
    """A data set of `count` examples: src, tgt_in and tgt_out of one length each."""
    rows = random_tokens(SRC_VOCAB, count, 5).tolist()
    return TensorDataset(*make_batch(rows, rows))


def test_batches_of_a_data_loader_are_trained_on_and_evaluated_like_any_other():
    data = triples(12)
    expected = [Batch(*data[start : start + 4]) for start in (0, 4, 8)]
    model = small_model(dropout=0.0)
    twin = copy.deepcopy(model)
    loader = DataLoader(data, batch_size=4)
    assert isinstance(next(iter(loader)), list)
    ours = train(model, loader, sgd(model), 3, held_out=loader, progress=False)
    theirs = train(twin, expected, sgd(twin), 3, held_out=expected, progress=False)
    assert ours == theirs
    assert evaluate(model, loader) == evaluate(twin, expected)
    assert ours.held_out_loss == [evaluate(twin, expected).loss]


@pytest.mark.parametrize("kind", [Batch._make, list, tuple])
def test_one_batch_may_be_given_for_a_collection_of_one(kind):
    model, batch = small_model(), next(batches())
    alone = kind(batch)
    assert evaluate(model, alone) == evaluate(model, [batch])
    history = train(model, [alone], sgd(model), 1, held_out=alone, progress=False)
    assert history.held_out_loss == [evaluate(model, [batch]).loss]


def test_batches_that_are_refused_are_refused_before_any_step():
    model = small_model()
    before = snapshot(model)
    optimizer = sgd(model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    strange = torch.optim.lr_scheduler.StepLR(sgd(model), 3)
    for error, options in (
        (TypeError, {"held_out": iter(some_batches(2))}),
        (TypeError, {"held_out": [*some_batches(2), random_tokens(11, 3, 5)]}),
        (TypeError, {"held_out": random_tokens(11, 3, 5)}),
        (ValueError, {"scheduler": plateau}),
        (ValueError, {"scheduler": strange}),
    ):
        with pytest.raises(error):
            train(model, batches(), optimizer, 3, progress=False, **options)
    with pytest.raises(ValueError, match="batches holds 2, fewer than num_steps"):
        train(model, some_batches(2), optimizer, 3, progress=False)
    assert_same_weights(model, before)


def test_a_plateau_of_the_held_out_loss_lowers_the_rate(monkeypatch):
    scripted_evaluations(monkeypatch, [3.0, 2.0, 2.5, 2.5, 1.0])
    model = small_model()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=1
    )
    history = train(
        model,
        batches(),
        optimizer,
        10,
        scheduler=schedule,
        held_out=some_batches(1),
        evaluate_every=2,
        progress=False,
    )
    # Worse twice in a row, after steps 6 and 8: the two steps left go at half the rate.
    assert history.learning_rate == pytest.approx([0.1] * 8 + [0.05] * 2)


def test_numpys_integers_count_steps():
    model = small_model()
    history = train(
        model,
        batches(),
        sgd(model),
        np.int64(5),
        held_out=some_batches(1),
        evaluate_every=np.int32(2),
        patience=np.int64(7),
        progress=False,
    )
    assert history.held_out_steps == [2, 4, 5]


def interrupting(source, after):
    """The batches of `source`; instead of the one after `after` comes Ctrl-C."""
    yield from itertools.islice(source, after)
    raise KeyboardInterrupt


def test_an_interruption_ends_training_and_keeps_the_history_and_the_weights():
    model = small_model(dropout=0.0)
    twin = copy.deepcopy(model)
    source = interrupting(batches(), 3)
    history = train(model, source, sgd(model), 9, progress=False)
    expected = train(twin, batches(), sgd(twin), 3, progress=False)
    assert history.interrupted is True
    assert expected.interrupted is False
    assert history.loss == expected.loss
    assert_same_weights(model, snapshot(twin))


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises `KeyboardInterrupt`, also where a shell has tests run unheard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end():
    model = small_model(dropout=0.0)
    twin = copy.deepcopy(model)
    optimizer = sgd(model)
    schedule = warmup_schedule(optimizer, 14, warmup_steps=7)
    before = signal.getsignal(signal.SIGINT)
    steps = itertools.count(1)

    def press_ctrl_c(*_arguments):
        if next(steps) == 3:
            signal.raise_signal(signal.SIGINT)

    model.output_projection.register_forward_hook(press_ctrl_c)
    history = train(model, batches(), optimizer, 9, scheduler=schedule, progress=False)
    assert history.interrupted is True
    assert history.num_steps == len(history.gradient_norm) == 3
    assert schedule.last_epoch == 3
    optimizer = sgd(twin)
    schedule = warmup_schedule(optimizer, 14, warmup_steps=7)
    train(twin, batches(), optimizer, 3, scheduler=schedule, progress=False)
    assert_same_weights(model, snapshot(twin))
    assert signal.getsignal(signal.SIGINT) is before


def test_training_works_in_a_thread_where_ctrl_c_never_arrives():
    model, results = small_model(), []
    thread = threading.Thread(
        target=lambda: results.append(
            train(model, batches(), sgd(model), 2, progress=False)
        )
    )
    thread.start()
    thread.join()
    assert results[0].num_steps == 2


def test_an_interruption_puts_the_best_weights_back_if_there_is_patience(monkeypatch):
    model = small_model()
    seen = scripted_evaluations(monkeypatch, [3.0, 1.0, 2.0])
    history = train(
        model,
        interrupting(batches(), 3),
        sgd(model),
        30,
        held_out=some_batches(1),
        evaluate_every=1,
        patience=5,
        progress=False,
    )
    assert history.interrupted is True
    assert history.stopped_early is False
    assert history.best_step == 2
    assert_same_weights(model, seen[1])


@pytest.mark.parametrize("patience", [None, 5])
def test_an_error_carries_the_history_until_then(monkeypatch, patience):
    model = small_model(dropout=0.0)
    seen = scripted_evaluations(monkeypatch, [3.0, 1.0, 2.0])
    step = itertools.count(1)

    def diverge(_module, _inputs, logits):
        return logits * math.nan if next(step) == 4 else logits

    model.register_forward_hook(diverge)
    with pytest.raises(FloatingPointError) as caught:
        train(
            model,
            batches(),
            sgd(model),
            30,
            held_out=some_batches(1),
            evaluate_every=1,
            patience=patience,
            progress=False,
        )
    assert caught.value.history.num_steps == 3
    assert caught.value.history.held_out_loss == [3.0, 1.0, 2.0]
    assert_same_weights(model, seen[2 if patience is None else 1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_logits_in_16_bits_is_computed_in_32(dtype):
    logits = torch.randn(3, 5, 13).to(dtype)
    tgt_out = random_tokens(13, 3, 5)
    loss = next_token_loss(logits, tgt_out)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, next_token_loss(logits.float(), tgt_out))


def test_accuracy_is_exact_whatever_the_default_type():
    # 300 of 301 are right: 0.9967. The nearest number in bfloat16 is 0.9961.
    logits = torch.zeros(1, 301, 5)
    logits[..., 3] = 1.0
    tgt_out = torch.full((1, 301), 3)
    tgt_out[0, 17] = 4
    torch.set_default_dtype(torch.bfloat16)
    try:
        accuracy = token_accuracy(logits, tgt_out)
    finally:
        torch.set_default_dtype(torch.float32)
    assert accuracy.item() == pytest.approx(300 / 301, rel=1e-6)


def test_the_progress_bar_vanishes_when_finished(capsys):
    model = small_model()
    train(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1), 2)
    written = capsys.readouterr().err
    assert "0/2" in written
    assert written.split("\r")[-1].strip() == ""
    assert "\n" not in written


def test_without_progress_nothing_is_written(capsys):
    model = small_model()
    train(
        model, batches(), torch.optim.SGD(model.parameters(), lr=0.1), 2, progress=False
    )
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_leaves_its_switch_to_tqdm(monkeypatch):
    # TQDM_DISABLE=1 in the environment counts only if no `disable` is passed.
    options = {}

    def bar(steps, **given):
        options.update(given)
        return steps

    monkeypatch.setattr("transformer.training.tqdm", bar)
    model = small_model()
    train(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1), 2)
    assert options
    assert "disable" not in options


def test_ten_small_rows_are_learnt_by_heart():
    model = small_model(dropout=0.0, d_ff=53)
    batch = make_batch(
        random_tokens(SRC_VOCAB, 10, 5).tolist(),
        random_tokens(TGT_VOCAB, 10, 3).tolist(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    history = train(model, itertools.repeat(batch), optimizer, 150, progress=False)
    assert history.loss[0] > 1.5
    assert evaluate(model, [batch]).accuracy == 1
    decoded = model.greedy_decode(batch.src, 5, START, END)
    assert torch.equal(
        decoded, torch.cat([batch.tgt_in, torch.full((10, 1), END)], dim=1)
    )


def test_smoothed_loss_is_worked_out_by_hand_and_the_reported_one_stays_plain():
    # Of LOGITS, the first and third position; the right tokens have 1/2 and 1/4. Over the
    # vocabulary of three, the mean of -log p is (2 log 4 + log 2) / 3 at both.
    tgt_out = torch.tensor([[2, 0, 1]])
    plain, spread = 3 * math.log(2), 2 * 5 * math.log(2) / 3
    smooth = summed_loss(LOGITS, tgt_out, label_smoothing=0.1)
    assert smooth.item() == pytest.approx(0.9 * plain + 0.1 * spread)
    assert summed_loss(LOGITS, tgt_out).item() == pytest.approx(plain)


def test_the_loss_that_is_reported_does_not_depend_on_smoothing_but_the_step_does():
    plain, smooth = small_model(dropout=0.0), small_model(dropout=0.0)
    smooth.load_state_dict(plain.state_dict())
    batch = next(batches())
    first = train_step(plain, batch, sgd(plain))
    second = train_step(smooth, batch, sgd(smooth), label_smoothing=0.3)
    assert second.loss == first.loss
    assert second.gradient_norm < first.gradient_norm

    twin = small_model(dropout=0.0)
    twin.load_state_dict(plain.state_dict())
    logits = twin(batch.src, batch.tgt_in)
    assert evaluate(twin, batch).loss == pytest.approx(
        next_token_loss(logits, batch.tgt_out).item()
    )


def test_a_step_with_smoothing_follows_the_gradient_of_the_smoothed_loss():
    model = small_model(dropout=0.0)
    twin = copy.deepcopy(model)
    batch = next(batches())
    train_step(model, batch, sgd(model), clip_norm=None, label_smoothing=0.3)
    torch.nn.functional.cross_entropy(
        twin(batch.src, batch.tgt_in).flatten(0, 1),
        batch.tgt_out.flatten(),
        ignore_index=PAD,
        label_smoothing=0.3,
    ).backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)


def test_a_step_in_parts_weighs_every_token_alike_not_every_part():
    # One row of five real tokens, END included, and one of two.
    batch = make_batch([[3, 4], [5]], [[3, 4, 5, 6], [7]])
    model = small_model(dropout=0.0)
    whole, halves = copy.deepcopy(model), copy.deepcopy(model)
    expected = train_step(whole, batch, sgd(whole))
    [parts] = in_parts([batch], 2)
    assert [len(part.src) for part in parts] == [1, 1]
    found = train_step(halves, parts, sgd(halves))
    assert found == pytest.approx(expected, rel=1e-12)
    for ours, theirs in zip(halves.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    losses = [next_token_loss(model(p.src, p.tgt_in), p.tgt_out).item() for p in parts]
    assert found.loss == pytest.approx((5 * losses[0] + 2 * losses[1]) / 7)
    assert abs(found.loss - sum(losses) / 2) > 1e-3


def test_parts_hold_every_row_of_a_batch_once():
    batch = make_batch([[i] for i in range(3, 10)], [[i] for i in range(3, 10)])
    [parts] = in_parts([batch], 3)
    rows = [part.src.flatten().tolist() for part in parts]
    assert rows == [[3, 6, 9], [4, 7], [5, 8]]


def test_parts_without_a_row_of_their_own_hold_no_token_that_counts():
    batch = make_batch([[3, 4]], [[5, 6]], pad_token_id=9)
    [parts] = in_parts([batch], 3, pad_token_id=9)
    assert [part.src.tolist() for part in parts] == [[[3, 4]]] * 3
    assert [part.tgt_out.tolist() for part in parts] == [
        [[5, 6, END]],
        [[9, 9, 9]],
        [[9, 9, 9]],
    ]


def test_a_part_without_a_token_is_let_pass_but_not_a_step_without_one():
    batch = make_batch([[3, 4], [5]], [[3, 4, 5, 6], [7]])
    first, second = (Batch(*(t[i : i + 1] for t in batch)) for i in (0, 1))
    blank = second._replace(tgt_out=torch.full_like(second.tgt_out, PAD))
    model, twin = small_model(dropout=0.0), small_model(dropout=0.0)
    twin.load_state_dict(model.state_dict())
    assert train_step(model, [first, blank], sgd(model)) == pytest.approx(
        train_step(twin, first, sgd(twin))
    )
    with pytest.raises(ValueError, match="holds no token but PAD: nothing to learn"):
        train_step(model, [blank, blank], sgd(model))


def test_a_run_gives_every_step_its_number_when_all_that_belongs_to_it_is_done():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = warmup_schedule(optimizer, 14, warmup_steps=3)
    run = TrainingRun(
        model,
        optimizer,
        scheduler=schedule,
        held_out=some_batches(1),
        evaluate_every=2,
    )
    seen = []
    for step in run.steps(batches(), 5):
        seen.append((step, schedule.last_epoch, list(run.history.held_out_steps)))
    assert seen == [
        (1, 1, []),
        (2, 2, [2]),
        (3, 3, [2]),
        (4, 4, [2, 4]),
        (5, 5, [2, 4, 5]),
    ]


def test_a_run_may_be_left_and_taken_up_again():
    model, twin = small_model(dropout=0.0), small_model(dropout=0.0)
    twin.load_state_dict(model.state_dict())
    run, source = TrainingRun(model, sgd(model)), batches()
    assert list(run.steps(source, 3)) == [1, 2, 3]
    assert list(run.steps(source, 3)) == []
    assert list(run.steps(some_batches(5)[3:], 5)) == [4, 5]
    expected = train(twin, batches(), sgd(twin), 5, progress=False)
    assert run.history == expected
    assert_same_weights(model, snapshot(twin))


def test_a_run_that_has_lost_patience_stays_at_its_end(monkeypatch):
    scripted_evaluations(monkeypatch, [1.0, 2.0, 3.0])
    model = small_model()
    run = TrainingRun(
        model, sgd(model), held_out=some_batches(1), evaluate_every=1, patience=2
    )
    assert list(run.steps(batches(), 9)) == [1, 2, 3]
    assert run.history.stopped_early is True
    assert list(run.steps(batches(), 9)) == []


@pytest.mark.usefixtures("ctrl_c")
def test_an_evaluation_that_ctrl_c_cuts_off_is_made_up_for(monkeypatch):
    model = small_model(dropout=0.0)
    run = TrainingRun(model, sgd(model), held_out=some_batches(1), evaluate_every=2)
    with monkeypatch.context() as patch:
        patch.setattr(
            "transformer.training.evaluate",
            lambda *_: signal.raise_signal(signal.SIGINT),
        )
        with pytest.raises(KeyboardInterrupt):
            list(run.steps(batches(), 5))
    assert run.history.num_steps == 2
    assert run.history.held_out_steps == []
    list(run.steps(batches(), 3))
    assert run.history.held_out_steps == [2, 3]


@pytest.mark.parametrize("seconds", [10, 11])
def test_no_step_begins_after_the_time_is_up(monkeypatch, seconds):
    # Every look at the clock takes 4 seconds: the third step ends after 12.
    clock = itertools.count(0, 4)
    monkeypatch.setattr("transformer.training.time.monotonic", lambda: next(clock))
    model, held_out = small_model(), some_batches(1)
    history = train(
        model,
        batches(),
        sgd(model),
        9,
        held_out=held_out,
        max_seconds=seconds,
        progress=False,
    )
    assert history.num_steps == 3
    assert history.out_of_time is True
    assert history.held_out_steps == [3]
    assert history.held_out_loss == [evaluate(model, held_out).loss]


def test_time_that_suffices_changes_nothing():
    model = small_model()
    history = train(model, batches(), sgd(model), 2, max_seconds=1e6, progress=False)
    assert (history.num_steps, history.out_of_time) == (2, False)


def test_joined_histories_are_those_of_one_run():
    first = History([3.0, 2.0], [0.1, 0.1], [5.0, 4.0], [2], [2.5], [0.3], True)
    second = History(
        [1.5, 1.0, 0.5], [0.2] * 3, [3.0] * 3, [1, 3], [1.4, 1.8], [0.5, 0.4]
    )
    joined = first + second
    assert joined.loss == [3.0, 2.0, 1.5, 1.0, 0.5]
    assert joined.gradient_norm == [5.0, 4.0, 3.0, 3.0, 3.0]
    assert joined.learning_rate == [0.1, 0.1, 0.2, 0.2, 0.2]
    assert joined.held_out_steps == [2, 3, 5]
    assert joined.held_out_accuracy == [0.3, 0.5, 0.4]
    assert joined.best_step == 3
    assert joined.stopped_early is False
    assert first.num_steps == 2


@pytest.mark.parametrize("share", [-0.1, 1, math.nan])
def test_a_share_that_is_none_is_refused(share):
    model = small_model()
    with pytest.raises(
        ValueError, match=r"label_smoothing must (lie in \[0, 1\)|be fin)"
    ):
        train_step(model, next(batches()), sgd(model), label_smoothing=share)
