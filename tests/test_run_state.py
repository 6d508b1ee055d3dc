import random
import time

import pytest
import torch
import workers
from helpers import assert_same_weights, small_model, snapshot
from processes import start
from safetensors.torch import save_file
from workers import begin, ragged_batches, train_to_the_end, write_pairs

from transformer.run_state import load_run, save_run
from transformer.schedule import linear_schedule
from transformer.state_file import read_state, write_state
from transformer.training import Evaluation, TrainingRun


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    write_pairs(folder / "pairs.tsv")
    train_to_the_end(folder)
    return folder


def final(folder):
    return (folder / "final").read_bytes()


def test_the_run_that_is_killed_has_all_that_a_run_can_have(undisturbed):
    state = read_state(undisturbed / "final")
    history = state["history"]
    assert len(history["loss"]) == 24
    assert history["held_out_steps"] == [4, 8, 12, 16, 20, 24]
    assert len(set(history["learning_rate"])) > 20
    for name in ("best", "last", "averaged"):
        assert state[name]
    name = "output_projection.weight"
    assert not torch.equal(state["last"][name], state["averaged"][f"module.{name}"])


@pytest.mark.parametrize(
    "deaths",
    [["step 2"], ["step 11", "save 12", "step 23"], ["save 3", "save 18", "save 24"]],
    ids=" ".join,
)
def test_a_killed_run_comes_to_what_the_undisturbed_one_did(
    undisturbed, tmp_path, deaths
):
    write_pairs(tmp_path / "pairs.tsv")
    for death in deaths:
        process = start(train_to_the_end, str(tmp_path), 24, death)
        process.join()
        assert process.exitcode == -9
        assert not (tmp_path / "final").exists()
    leftovers = [path for path in tmp_path.iterdir() if path.name.startswith(".run.")]
    assert len(leftovers) == deaths[-1].startswith("save")
    train_to_the_end(tmp_path)
    assert final(tmp_path) == final(undisturbed)
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.tsv", "run", "final"}


def begin_anew(folder):
    (folder / "run").unlink()
    (folder / "final").unlink()


@pytest.mark.soak
def test_ten_kills_at_random_moments_change_nothing(undisturbed, tmp_path):
    write_pairs(tmp_path / "pairs.tsv")
    began = time.monotonic()
    process = start(train_to_the_end, str(tmp_path), 24, None, 1)
    process.join()
    whole = time.monotonic() - began
    begin_anew(tmp_path)
    kills = 0
    while kills < 10:
        process = start(train_to_the_end, str(tmp_path), 24, None, 1)
        process.join(random.uniform(0.2, 0.8) * whole)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        else:  # It has come to its end: another run, to be killed again.
            assert final(tmp_path) == final(undisturbed)
            begin_anew(tmp_path)
    train_to_the_end(tmp_path)
    assert final(tmp_path) == final(undisturbed)


def a_run(seed=3, scheduled=True, **options):
    model, optimizer = begin(seed=seed)
    scheduler = linear_schedule(optimizer, 2, 9) if scheduled else None
    return TrainingRun(model, optimizer, scheduler=scheduler, **options)


@pytest.fixture
def path(tmp_path):
    """A run after three steps."""
    run = a_run()
    list(run.steps(ragged_batches(5), 3))
    save_run(tmp_path / "run", run)
    return tmp_path / "run"


def test_without_a_file_a_run_begins_at_the_beginning(tmp_path):
    run = a_run()
    assert load_run(tmp_path / "run", run) is False
    assert run.history.num_steps == 0


def test_a_loaded_run_has_weights_history_rate_and_random_numbers(path):
    random_state = torch.get_rng_state()
    run, original = a_run(seed=4), a_run()
    list(original.steps(ragged_batches(5), 3))
    torch.rand(3)
    assert load_run(path, run) is True
    assert run.history == original.history
    assert run.optimizer.param_groups[0]["lr"] == original.scheduler.get_last_lr()[0]
    assert_same_weights(run.model, snapshot(original.model))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_best_weights_of_before_are_put_back_if_none_are_better(
    tmp_path, monkeypatch
):
    losses = iter([3.0, 1.0, 2.0, 2.5, 1.5])
    monkeypatch.setattr(
        "transformer.training.evaluate", lambda *_: Evaluation(next(losses), 0.5)
    )
    watched = dict(held_out=next(ragged_batches(5)), evaluate_every=1, patience=9)
    run, again = a_run(**watched), a_run(seed=4, **watched)
    for step in run.steps(ragged_batches(5), 3):
        if step == 2:
            best = snapshot(run.model)
    save_run(tmp_path / "run", run)
    load_run(tmp_path / "run", again)
    list(again.steps(ragged_batches(5, seed=8), 5))
    assert again.history.best_step == 2
    again.restore_best()
    assert_same_weights(again.model, best)


def test_parts_of_a_model_may_be_frozen_or_trained_at_another_rate(tmp_path):
    def partial_run():
        torch.manual_seed(3)
        model = small_model(dropout=0.0)
        model.encoder.requires_grad_(False)
        groups = [
            {"params": model.decoder.parameters(), "lr": 1e-3},
            {"params": model.output_projection.parameters(), "lr": 1e-2},
        ]
        return TrainingRun(model, torch.optim.Adam(groups, betas=(0.8, 0.9)))

    run, again = partial_run(), partial_run()
    list(run.steps(ragged_batches(5), 3))
    save_run(tmp_path / "run", run)
    load_run(tmp_path / "run", again)
    batch = list(ragged_batches_of(2))
    list(run.steps(iter(batch), 5))
    list(again.steps(iter(batch), 5))
    assert again.history == run.history
    assert_same_weights(again.model, snapshot(run.model))
    assert [tuple(g["betas"]) for g in again.optimizer.param_groups] == [(0.8, 0.9)] * 2


def ragged_batches_of(count):
    source = ragged_batches(5, seed=8)
    return (next(source) for _ in range(count))


def test_a_full_disk_says_what_is_left(path, monkeypatch):
    before = path.read_bytes()
    run = a_run()
    load_run(path, run)

    def disk_full(_descriptor):
        raise OSError(28, "No space left on device")

    list(run.steps(ragged_batches(5), 4))
    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(
        OSError, match=r"after step 4: No space left on device; .*run is as it was$"
    ):
        save_run(path, run)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["run"]


def test_a_torn_file_is_refused_and_the_run_is_as_it_was(path):
    content = path.read_bytes()
    run = a_run(seed=4)
    before = snapshot(run.model)
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="run is torn or holds no state"):
            load_run(path, run)
    assert_same_weights(run.model, before)
    assert run.history.num_steps == 0


def test_a_file_of_something_else_is_refused(path):
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="was not written by write_state"):
        load_run(path, a_run())
    write_state(path, {"weights": {}})
    with pytest.raises(ValueError, match="it lacks best_weights, history"):
        load_run(path, a_run())


def another_optimizer():
    model, _ = begin()
    optimizer = torch.optim.AdamW(model.decoder.parameters())
    scheduler = linear_schedule(optimizer, 2, 9)
    return TrainingRun(model, optimizer, scheduler=scheduler)


def another_model():
    model = small_model(d_ff=23)
    optimizer = torch.optim.AdamW(model.parameters())
    return TrainingRun(model, optimizer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (another_model, r"feed_forward\.contract\.bias|\[14, 19\], not \[14, 23\]"),
        (
            another_optimizer,
            r"holds groups of \[\d+\] parameters, the one given \[\d+\]",
        ),
        (
            lambda: a_run(scheduled=False),
            r"run holds a scheduler and \[\]; no scheduler and \[\] were given$",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_refused_and_is_as_it_was(path, make, message):
    run = make()
    before = snapshot(run.model)
    with pytest.raises(ValueError, match=message):
        load_run(path, run)
    assert_same_weights(run.model, before)
    assert run.optimizer.state == {}


def test_what_else_belongs_to_a_run_must_be_given_back(path):
    with pytest.raises(ValueError, match=r"and \[\]; a scheduler and \['averaged'\]"):
        load_run(path, a_run(), averaged=torch.nn.Linear(2, 3))


def test_before_the_first_step_there_is_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="no step has been taken yet"):
        save_run(tmp_path / "run", a_run())


def test_workers_write_words_and_their_reverse(tmp_path):
    workers.write_pairs(tmp_path / "pairs.tsv")
    lines = (tmp_path / "pairs.tsv").read_text().splitlines()
    assert len(lines) == 61
    for line in lines:
        source, target = line.split("\t")
        assert source == target[::-1]
