import copy
import itertools
import math

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
from transformer.training import Evaluation

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
