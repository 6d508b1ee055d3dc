import itertools
import time
from datetime import timedelta

import pytest
import torch
import workers
from helpers import assert_same_weights, small_model, snapshot
from processes import launch
from torch.nn.parallel import DataParallel
from torch.optim.swa_utils import AveragedModel
from workers import begin, ragged_batches, train_on

from transformer import PAD, evaluate
from transformer.batching import in_parts
from transformer.parallel import (
    bare_model,
    process_group,
    rank,
    shard,
    sum_over_processes,
    world_size,
)
from transformer.run_state import load_run
from transformer.training import TrainingRun


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two_processes")


@pytest.fixture(scope="module")
def two(folder):
    """What each of two processes has found out."""
    found = launch(workers.facts_of_two_processes, 2, str(folder))
    assert not [answer for answer in found if isinstance(answer, str)], found
    return found


@pytest.fixture(scope="module")
def alone():
    return train_on(ragged_batches(64))


@pytest.fixture(scope="module")
def briefly_alone():
    return train_on(ragged_batches(6), num_steps=8)


def assert_same_run(found, expected, tolerance=1e-12):
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"weights"}:
        assert found[name] == pytest.approx(expected[name], rel=0, abs=tolerance), name
    for name, numbers in expected["weights"].items():
        torch.testing.assert_close(
            torch.tensor(found["weights"][name], dtype=torch.float64),
            torch.tensor(numbers, dtype=torch.float64),
            rtol=0,
            atol=tolerance,
        )


def test_the_curve_that_all_are_compared_with_learns_and_is_ragged(alone):
    assert len(alone["loss"]) == 30
    assert alone["loss"][-1] < alone["loss"][0] - 0.1
    assert len(alone["held out"]) == 3
    batch = next(ragged_batches(64))
    assert (batch.tgt_out == PAD).double().mean() > 0.3


def test_parts_of_a_step_give_the_curve_and_weights_of_the_whole(alone):
    assert_same_run(train_on(in_parts(ragged_batches(64), 4)), alone)


@pytest.mark.parametrize("way", ["ddp", "ddp in parts"])
def test_two_processes_give_the_curve_and_weights_of_one(two, alone, way):
    assert_same_run(two[0][way], alone)
    assert two[1][way] == two[0][way]


@pytest.mark.parametrize("way", ["fsdp", "fsdp in parts"])
def test_a_model_that_is_cut_up_gives_the_same_curve_and_weights(
    two, briefly_alone, way
):
    assert_same_run(two[0][way], briefly_alone)
    assert two[1][way] == two[0][way]


def test_label_smoothing_is_shared_out_as_the_loss_is(two):
    whole = train_on(ragged_batches(6), num_steps=8, label_smoothing=0.1)
    assert_same_run(two[0]["smooth"], whole)


def test_processes_that_forget_to_shard_come_to_the_same_weights(two, briefly_alone):
    assert_same_run(two[0]["not sharded"], briefly_alone)


def test_a_batch_smaller_than_the_number_of_processes_is_trained_on_all_the_same(two):
    small = itertools.cycle([next(ragged_batches(1)), next(ragged_batches(3, seed=4))])
    assert_same_run(two[0]["small"], train_on(small, num_steps=8))


def test_models_of_other_seeds_are_made_one_before_they_are_cut_up(two, briefly_alone):
    assert_same_run(two[0]["fsdp, other seeds"], briefly_alone)


def test_a_model_that_nothing_synchronises_is_refused(two):
    assert two[0]["not wrapped"] == (
        "2 processes would train a model each: wrap it, DistributedDataParallel(model), "
        "or cut it up, fully_shard(model)"
    )


@pytest.mark.parametrize("way", ["ddp resumed", "fsdp resumed"])
def test_a_run_of_two_processes_goes_on_bit_for_bit(two, way):
    for found in two:
        undisturbed, resumed = found[way]
        assert resumed == undisturbed


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_another_number_of_processes_goes_on_within_rounding(two, folder, way):
    undisturbed, _ = two[0][f"{way} resumed"]
    model, optimizer = begin(seed=4)
    held_out = next(ragged_batches(5))
    run = TrainingRun(model, optimizer, held_out=held_out, evaluate_every=2, patience=9)
    assert load_run(folder / way, run)
    batches = itertools.islice(ragged_batches(6), run.history.num_steps, None)
    assert list(run.steps(batches, 8)) == [5, 6, 7, 8]
    run.restore_best()
    assert_same_run(workers.outcome(model, run.history), undisturbed)


def test_every_process_measures_its_rows_and_knows_the_result_of_all(two):
    model, _ = begin()
    expected = evaluate(model, next(ragged_batches(5)))
    for found in two:
        assert found["evaluation"] == pytest.approx(expected, rel=1e-12)


def test_sums_are_over_all_processes_and_leave_the_parts_alone(two):
    assert [found["rank"] for found in two] == [0, 1]
    assert [found["size"] for found in two] == [2, 2]
    # (0 + 1) + (1 + 1), and 5 twice.
    assert [found["sum"] for found in two] == [[3, 10]] * 2
    a, b = (torch.tensor(found["own"]) for found in two)
    assert not torch.equal(a, b)
    assert two[0]["sum of own"] == two[1]["sum of own"] == (a + b).tolist()


def test_time_is_up_for_all_when_it_is_for_the_first(two):
    assert [found["stopped by one"] for found in two] == [[1, 3]] * 2


def test_an_error_in_one_process_ends_the_others_soon():
    start = time.monotonic()
    waiting, failing = launch(workers.fail_in_one_process, 2)
    assert failing == "ValueError: the batches ran out after 2 of 30 steps"
    assert waiting.startswith(("RuntimeError: ", "DistBackendError: "))
    assert time.monotonic() - start < 90  # The group's own patience is 100 seconds.


@pytest.mark.soak
def test_three_processes_go_on_bit_for_bit_if_gradients_keep_their_order(tmp_path):
    for undisturbed, resumed in launch(workers.resume_in_order, 3, tmp_path / "run"):
        assert resumed == undisturbed


def test_a_group_waits_five_minutes_not_thirty(monkeypatch):
    seen = {}
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        "torch.distributed.init_process_group",
        lambda backend, timeout: seen.update(backend=backend, timeout=timeout),
    )
    ended = []
    monkeypatch.setattr(
        "torch.distributed.destroy_process_group", lambda: ended.append(True)
    )
    with process_group() as device:
        assert seen == {"backend": "gloo", "timeout": timedelta(minutes=5)}
        assert device == torch.device("cpu")
        assert not ended
    assert ended


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group() as device:
        assert isinstance(device, torch.device)
        assert (rank(), world_size()) == (0, 1)
        value = torch.tensor([3.0])
        assert sum_over_processes(value) is value
        batch = next(ragged_batches(5))
        [own] = shard([batch])
        assert all(map(torch.equal, own, batch))


def test_restarts_that_would_meet_dead_addresses_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    message = "--max-restarts 3: put TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before it"
    with pytest.raises(ValueError, match=message), process_group():
        pass


def test_the_model_is_found_inside_whatever_wraps_it():
    model = small_model()
    compiled = torch.compile(model, backend="eager")
    for wrapped in (model, compiled, DataParallel(model), DataParallel(compiled)):
        assert bare_model(wrapped) is model
    averaged = AveragedModel(model)
    assert bare_model(averaged) is averaged.module


def test_data_parallel_trains_as_the_model_itself_does(briefly_alone):
    found = train_on(ragged_batches(6), DataParallel, num_steps=8)
    assert_same_run(found, briefly_alone, tolerance=0)


def test_averaged_weights_are_evaluated_like_any_other():
    model = small_model()
    averaged = AveragedModel(model)
    before = snapshot(model)
    batch = next(ragged_batches(5))
    assert evaluate(averaged, batch) == evaluate(model, batch)
    assert_same_weights(model, before)
