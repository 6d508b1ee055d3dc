"""What benchmarks share, and the files that the page "Measured" reads."""

import ast
import json
import math
from types import SimpleNamespace

import pytest
import torch

from benchmarks import measure, perturbation, rounding
from transformer import Transformer


def test_contenders_take_turns_after_one_call_to_warm_up():
    calls = []
    seconds = measure.take_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3
    )
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert min(seconds["a"] + seconds["b"]) >= 0


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians():
    # By round, "b" is 2, 4 and 3 times as fast. The medians, 8 and 3, would give 2.67.
    seconds = {"a": [4.0, 8.0, 9.0], "b": [2.0, 2.0, 3.0]}
    assert measure.times_as_fast(seconds, "a") == {"a": 1, "b": 3}
    assert measure.times_as_fast(seconds, "b")["a"] == pytest.approx(1 / 3)


def test_a_result_file_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    measure.write_results("trial", ["torch"], {"runs": [{"seconds": 1.23456789}]})
    stored = json.loads((measure.RESULTS / "trial.json").read_text("utf-8"))
    assert stored["runs"] == [{"seconds": 1.235}]
    assert set(stored["versions"]) == {"python", "torch"}
    assert stored["machine"]["cores"] >= 1
    assert len(stored["date"]) == len("2026-01-31")


@pytest.mark.parametrize(
    "name", ["book", "decoding", "training", "learning", "rounding"]
)
def test_every_stored_result_names_date_machine_and_versions(name):
    stored = json.loads((measure.RESULTS / f"{name}.json").read_text("utf-8"))
    assert stored["date"] >= "2026"
    assert set(stored["machine"]) == {"processor", "cores", "system"}
    assert {"python", "torch"} <= set(stored["versions"])


def test_chapter_9_needs_at_most_128_000_examples_on_each_of_five_seeds():
    stored = json.loads((measure.RESULTS / "learning.json").read_text("utf-8"))
    (recipe,) = (r for r in stored["recipes"] if r["name"] == "chapter 9's")
    assert recipe["examples"] <= 128_000
    assert [run["held_out_right"] for run in recipe["runs"]] == [1_000] * 5
    assert [run["all_right"] for run in recipe["runs"]] == [10_000] * 5


def test_chapter_9_misses_no_sum_in_a_hundred_runs():
    stored = json.loads((measure.RESULTS / "learning.json").read_text("utf-8"))
    assert len({(run["seed"], run["noise"]) for run in stored["hundred"]}) == 100
    assert {run["all_right"] for run in stored["hundred"]} == {10_000}


def test_no_run_of_any_chapter_failed_under_another_rounding():
    stored = json.loads((measure.RESULTS / "rounding.json").read_text("utf-8"))
    subjects = {subject["subject"]: subject for subject in stored["subjects"]}
    assert set(subjects) == {rounding.TESTS, *rounding.notebooks()}
    for subject in subjects.values():
        for kind in ("processor", "noise", "seeds"):
            assert subject[kind]["failed"] == {}
            measured_nothing = kind == "seeds" and subject["subject"] == rounding.TESTS
            assert measured_nothing or subject[kind]["runs"] > 0
        margins = subject["noise"]["margins"] | subject["seeds"]["margins"]
        assert min(margins.values(), default=99) >= rounding.LEAST_MARGIN


def run_cell(source, environment, monkeypatch):
    """Execute a cell as a perturbed kernel would; what it defines, without builtins."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shell = SimpleNamespace(ast_transformers=[], user_ns={})
    perturbation.perturb_cells(shell)
    tree = ast.parse(source)
    for transformer in shell.ast_transformers:
        tree = transformer.visit(tree)
    exec(compile(tree, "cell", "exec"), shell.user_ns)
    return shell.user_ns


def test_other_seeds_are_far_from_those_of_the_book(monkeypatch):
    source = "import torch\nseed = torch.Generator().manual_seed(3).initial_seed()"
    assert run_cell(source, {}, monkeypatch)["seed"] == 3
    changed = run_cell(source, {"ROUNDING_SEEDS": "2"}, monkeypatch)
    assert changed["seed"] == 2_003


def test_claims_and_numbers_of_a_cell_are_logged(tmp_path, monkeypatch, capsys):
    log = tmp_path / "log"
    source = """
import torch
share = 0.83
print(f"on the tens ≈ {share:.1f}, one of {10}")
print("above:", share > 0.9, [share < bound for bound in (0.9, 1)])
assert 0.5 < share < 0.9
assert "≈" == "≈"
print("each:", (torch.tensor([0.6, 0.7]) > 0.5).tolist())
is_high = share > 0.8
"""
    names = run_cell(source, {"ROUNDING_LOG": str(log)}, monkeypatch)
    assert names["is_high"]
    assert capsys.readouterr().out == (
        "on the tens ≈ 0.8, one of 10\nabove: False [True, True]\neach: [True, True]\n"
    )
    entries = list(map(json.loads, log.read_text("utf-8").splitlines()))
    assert entries.pop(0) == {"line": "on the tens", "value": 0.83}
    assert [(e["claim"], e["holds"]) for e in entries] == [
        ("share > 0.9", False),
        ("share < bound", True),
        ("share < bound", True),
        ("0.5 < share < 0.9", True),
        ("'≈' == '≈'", True),
        ("torch.tensor([0.6, 0.7]) > 0.5", True),
    ]
    slacks = [entry["slack"] for entry in entries]
    assert slacks.pop(4) is None
    assert slacks == pytest.approx([-0.07, 0.07, 0.17, 0.07, 0.1])


def test_a_claim_that_does_not_hold_still_fails(tmp_path, monkeypatch):
    environment = {"ROUNDING_LOG": str(tmp_path / "log")}
    with pytest.raises(AssertionError):
        run_cell("share = 0.95\nassert 0.5 < share < 0.9", environment, monkeypatch)


def test_noise_is_about_a_millionth_and_the_same_for_models_built_alike():
    first, second, other = (Transformer(7, 7, 6, 2, 1, 1, 5, 11) for _ in range(3))
    weights = first.output_projection.weight.detach().clone()
    second.load_state_dict(first.state_dict())
    other.load_state_dict(first.state_dict())
    for model, run in ((first, 1), (second, 1), (other, 2)):
        perturbation.change_weights(model, run)
    changed = [model.output_projection.weight for model in (first, second, other)]
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])
    relative = (changed[0] / weights - 1).abs()
    assert 1e-7 < relative.mean().item() < 2e-6


def outcomes(*slacks):
    """Outcomes of runs that make one claim each, with these slacks."""
    return [
        rounding.Outcome([], [{"claim": "a > b", "holds": s > 0, "slack": s}], [])
        for s in slacks
    ]


def test_a_margin_is_the_mean_slack_in_standard_deviations():
    # Mean 2; twenty deviations of 1, whose squares add up to 20, over 20 - 1.
    found = rounding.margins(outcomes(*[1.0, 3.0] * 10))
    assert found == {"a > b": pytest.approx(2 / math.sqrt(20 / 19))}
    assert rounding.margins(outcomes(*[1.0] * 20)) == {}
    assert rounding.margins(outcomes(1.0, 3.0)) == {}


def test_a_claim_that_comes_out_differently_contradicts():
    plain, same, other = outcomes(1.0, 2.0, -1.0)
    assert rounding.contradictions(plain, same) == []
    assert rounding.contradictions(plain, other) == ["a > b"]


def test_every_condition_changes_one_variable_and_has_its_own_name():
    conditions = rounding.conditions()
    assert len({condition.name for condition in conditions}) == len(conditions)
    assert [c.kind for c in conditions].count("noise") == rounding.NUM_RUNS == 20
    assert [c.kind for c in conditions].count("seeds") == rounding.NUM_RUNS
    assert rounding.UNCHANGED in {condition.name for condition in conditions}
