"""What benchmarks share, and the files that the page "Measured" reads."""

import ast
import itertools
import json
import math
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import heads, learning, measure, parts, perturbation, rounding, tasks
from benchmarks.two_tasks import share_right
from transformer import END, AdditionTask, Transformer, count_parameters
from transformer.numerals import german


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


KEPT_RUN = """
from benchmarks.measure import kept
from {folder} import other

@kept
def run(name, seed):
    calls.append((name, seed))
    return {{"seed": seed, "right": (1, 2)}}

calls = []
"""


@pytest.fixture
def module_of_runs(tmp_path, monkeypatch):
    """Loads a module with a `run` that is kept, as it stands in its file at the moment."""
    monkeypatch.setattr(measure, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(measure, "PACKAGE", tmp_path / "package")
    folder = tmp_path / "runs_of_a_test"
    for path in (folder, measure.PACKAGE):
        path.mkdir()
    (measure.PACKAGE / "tasks.py").write_text("", "utf-8")
    for name in ("other", "deeper", "stranger"):
        (folder / f"{name}.py").write_text("", "utf-8")
    (folder / "other.py").write_text(f"import {folder.name}.deeper", "utf-8")
    (folder / "trial.py").write_text(KEPT_RUN.format(folder=folder.name), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def load():
        names = {"__name__": "trial"}
        path = folder / "trial.py"
        exec(compile(path.read_text("utf-8"), path, "exec"), names)
        return SimpleNamespace(**names)

    return load


def test_a_run_that_is_kept_is_not_repeated(module_of_runs):
    module = module_of_runs()
    first = module.run("Muon 0.03", 1)
    assert first == {"seed": 1, "right": [1, 2]}
    again = module_of_runs()
    assert again.run("Muon 0.03", 1) == first
    assert again.calls == []
    module.run("Muon 0.03", 2)
    module.run("Muon-0.03", 1)
    assert module.calls == [("Muon 0.03", 1), ("Muon 0.03", 2), ("Muon-0.03", 1)]
    names = sorted(path.name for path in measure.KEPT.iterdir())
    assert len(names) == 3
    assert names[0].startswith("trial-run-Muon-0-03-1-")
    assert {name.rsplit(".")[-1] for name in names} == {"json"}


@pytest.mark.parametrize(
    ("changed", "runs_again"),
    [
        ("runs_of_a_test/trial.py", True),
        ("runs_of_a_test/other.py", True),
        ("runs_of_a_test/deeper.py", True),
        ("package/tasks.py", True),
        ("runs_of_a_test/stranger.py", False),
    ],
)
def test_a_run_is_repeated_when_the_code_that_it_uses_has_changed(
    module_of_runs, tmp_path, changed, runs_again
):
    module_of_runs().run("Adam", 0)
    with (tmp_path / changed).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    again = module_of_runs()
    again.run("Adam", 0)
    assert again.calls == [("Adam", 0)] * runs_again


def test_a_run_that_is_interrupted_while_it_is_stored_is_repeated(
    module_of_runs, monkeypatch
):
    module = module_of_runs()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            module.run("Adam", 0)
    assert list(measure.KEPT.glob("*.json")) == []
    assert module.run("Adam", 0)["seed"] == 0
    assert len(module.calls) == 2


@pytest.mark.parametrize(
    "name",
    ["book", "decoding", "training", "learning", "parts", "heads", "tasks", "rounding"],
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
            least = 1 if kind == "processor" else rounding.NUM_RUNS
            measured_nothing = kind == "seeds" and subject["subject"] == rounding.TESTS
            assert measured_nothing or subject[kind]["runs"] >= least
        for margins in (subject["noise"]["margins"], subject["seeds"]["margins"]):
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
    # The other branch of an `if`.
    elsewhere = rounding.Outcome([], [{"claim": "a > c", "holds": False}], [])
    assert rounding.contradictions(plain, elsewhere) == []


def test_what_was_not_run_again_stays_stored():
    stored = [{"subject": "a", "runs": 1}, {"subject": "gone"}, {"subject": "c"}]
    new = [{"subject": "a", "runs": 2}, {"subject": "b"}]
    expected = [{"subject": "a", "runs": 2}, {"subject": "b"}, {"subject": "c"}]
    assert rounding.updated(stored, new, ["a", "b", "c", "d"]) == expected


def test_every_condition_changes_one_variable_and_has_its_own_name():
    conditions = rounding.conditions()
    assert len({condition.name for condition in conditions}) == len(conditions)
    assert [c.kind for c in conditions].count("noise") == rounding.NUM_RUNS == 20
    assert [c.kind for c in conditions].count("seeds") == rounding.NUM_RUNS
    assert rounding.UNCHANGED in {condition.name for condition in conditions}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nothing", 0),
        ("self-attention of the encoder", 2),
        ("self-attention of the decoder", 3),
        ("cross-attention", 3),
        ("feed-forward networks", 5),
        # Two sub-layers in each of two layers, three in each of three, two final norms.
        ("residual connections", 13),
        ("layer norms", 15),
        ("positions", 1),
    ],
)
def test_a_part_is_taken_away_wherever_it_is(name, count):
    (part,) = (part for part in parts.PARTS if part.name == name)
    model = Transformer(7, 7, 6, 2, 2, 3, 5, 11, norm_first=True)
    assert parts.take_away(part, model) == count
    assert model(torch.tensor([[3, 4, 5]]), torch.tensor([[1, 6]])).shape == (1, 2, 7)


def without(name):
    """A model of two layers without one part, its weights as always."""
    torch.manual_seed(0)
    model = Transformer(7, 7, 6, 2, 2, 2, 5, 11, dropout=0.0, norm_first=True)
    (part,) = (part for part in parts.PARTS if part.name == name)
    parts.take_away(part, model)
    return model.eval()


def test_a_model_without_cross_attention_knows_nothing_of_the_source():
    first, second = torch.tensor([[3, 4, 5]]), torch.tensor([[6, 5, 3]])
    tgt_in = torch.tensor([[1, 6, 4]])
    whole, blind = without("nothing"), without("cross-attention")
    torch.testing.assert_close(blind(first, tgt_in), blind(second, tgt_in))
    assert (whole(first, tgt_in) - whole(second, tgt_in)).abs().max() > 1e-3


def test_a_model_without_self_attention_treats_each_position_alone():
    first, second = torch.tensor([[3, 4, 5]]), torch.tensor([[6, 4, 3]])
    whole, alone = without("nothing"), without("self-attention of the encoder")
    torch.testing.assert_close(alone.encode(first)[:, 1], alone.encode(second)[:, 1])
    difference = whole.encode(first)[:, 1] - whole.encode(second)[:, 1]
    assert difference.abs().max() > 1e-3


def test_a_model_without_positions_does_not_know_the_order_of_the_source():
    src, tgt_in = torch.tensor([[3, 4, 5]]), torch.tensor([[1, 6, 4]])
    whole, without_order = without("nothing"), without("positions")
    torch.testing.assert_close(
        without_order(src, tgt_in), without_order(src.flip(1), tgt_in)
    )
    assert (whole(src, tgt_in) - whole(src.flip(1), tgt_in)).abs().max() > 1e-3


def test_a_layer_without_a_part_computes_the_rest():
    x = torch.randn(2, 3, 6)
    layer = without("feed-forward networks").encoder.layers[0]
    seen = layer.self_attention_add_norm.norm(x)
    attended = layer.self_attention(seen, seen, seen)[0]
    torch.testing.assert_close(layer(x), x + attended)

    layer = without("residual connections").encoder.layers[0]
    seen = layer.self_attention_add_norm.norm(x)
    seen = layer.feed_forward_add_norm.norm(layer.self_attention(seen, seen, seen)[0])
    torch.testing.assert_close(layer(x), layer.feed_forward(seen))

    layer = without("layer norms").encoder.layers[0]
    attended = x + layer.self_attention(x, x, x)[0]
    torch.testing.assert_close(layer(x), attended + layer.feed_forward(attended))


@pytest.mark.parametrize("units_first", [False, True])
def test_a_sum_counts_as_right_in_the_order_that_the_recipe_asks_for(units_first):
    task, pairs = AdditionTask(2), torch.tensor([[57, 26], [40, 2], [5, 6], [8, 3]])
    batch = task.make_batch(pairs)  # 083, 042, 011, 011
    written = learning.backwards(batch) if units_first else batch
    tokens = torch.cat([written.tgt_in, written.tgt_out[:, -1:]], dim=1)
    tokens[3, 2] = END

    class Writer:
        def greedy_decode(self, src, *_arguments):
            assert src.equal(batch.src)
            return tokens.clone()

    assert learning.count_right(Writer(), pairs, units_first) == 3
    assert learning.count_right(Writer(), pairs, not units_first) == 0


def test_sums_backwards_begin_with_the_units_and_end_with_end():
    batch = AdditionTask(2).make_batch(torch.tensor([[7, 85], [57, 43]]))
    turned = learning.backwards(batch)
    assert torch.equal(turned.src, batch.src)
    # 092 and 100; digit 0 is 4, START 1, END 2.
    assert turned.tgt_in.tolist() == [[1, 6, 13, 4], [1, 4, 4, 5]]
    assert turned.tgt_out.tolist() == [[6, 13, 4, 2], [4, 4, 5, 2]]


def test_no_model_is_better_than_what_is_left_to_it_allows():
    stored = json.loads((measure.RESULTS / "parts.json").read_text("utf-8"))
    right = {
        part["without"]: [run["exams"]["1800"]["sums"] for run in part["runs"]]
        for part in stored["parts"]
    }
    assert list(right) == [part.name for part in parts.PARTS]
    assert {len(sums) for sums in right.values()} == {len(parts.SEEDS)}
    assert set(right["nothing"]) == {10_000}
    # Without a look at the source the answer is always the same; 99 is right most often.
    assert max(right["cross-attention"]) <= 100
    # Without positions 57 + 26 cannot be told from any other order of its digits.
    answers = defaultdict(Counter)
    for a, b in itertools.product(range(100), repeat=2):
        answers["".join(sorted(f"{a:02}{b:02}"))][a + b] += 1
    best = sum(max(counts.values()) for counts in answers.values())
    assert max(right["positions"]) <= best == 2_850


def test_what_chapter_9_says_of_sums_written_backwards():
    stored = json.loads((measure.RESULTS / "parts.json").read_text("utf-8"))
    plain, backwards, plain_3, backwards_3 = (
        [run["right"] for run in order["runs"]] for order in stored["orders"]
    )
    assert max(run["200"] for run in backwards) < min(run["200"] for run in plain)
    assert max(run["400"] for run in plain) < min(run["400"] for run in backwards)
    learned = [run["800"] > 0.99 for run in (*plain_3, *backwards_3)]
    assert learned == [False, False, False, False, True, True]


@pytest.mark.parametrize("task", heads.TASKS, ids=lambda task: task.name)
def test_models_with_more_heads_have_the_same_parameters(task):
    sizes, *_ = task.prepare(torch.Generator().manual_seed(0))
    counts = {
        count_parameters(
            Transformer(**heads.RECIPE.sizes | sizes | {"num_heads": num_heads})
        )
        for num_heads in heads.HEADS
    }
    assert len(counts) == 1


@pytest.mark.parametrize("task", heads.TASKS, ids=lambda task: task.name)
def test_a_run_with_few_steps_is_examined_on_the_way(task):
    early = task._replace(exams=(1,))
    result = heads.run(early, num_heads=2, seed=0, num_steps=1)
    assert list(result["right"]) == [1]
    assert 0 <= result["right"][1] < 0.5


def test_an_answer_is_right_only_as_a_whole():
    asked = AdditionTask(2).make_batch(torch.tensor([[57, 26], [7, 5], [99, 99]]))
    answers = torch.cat([asked.tgt_in[:, :1], asked.tgt_out], dim=1)
    assert share_right(answers, asked) == 1
    answers[1, 2] += 1
    assert share_right(answers, asked) == pytest.approx(2 / 3)
    # Rows that are cut short.
    assert share_right(answers[:, :3], asked) == 0


def test_every_number_of_heads_was_trained_with_every_seed():
    stored = json.loads((measure.RESULTS / "heads.json").read_text("utf-8"))
    assert [trained["task"] for trained in stored["tasks"]] == [
        "addition",
        "number words",
    ]
    for trained in stored["tasks"]:
        assert [each["heads"] for each in trained["heads"]] == list(heads.HEADS)
        assert len(trained["parameters"]) == 1
        for each in trained["heads"]:
            assert [run["seed"] for run in each["runs"]] == list(heads.SEEDS)


TEXT_TASKS = {task.name: task for task in tasks.TEXT_TASKS}


@pytest.mark.parametrize("variant", [variant.name for variant in tasks.VARIANTS])
def test_a_text_task_is_learned_and_examined_without_each_part(variant, monkeypatch):
    monkeypatch.setattr(tasks, "TRAININGS", (1, 2, 4))
    monkeypatch.setattr(tasks, "NUM_ASKED", 5)
    result = tasks.run_task.__wrapped__("reverse", variant, 0, 2)
    assert result["steps"] is None
    # Without positions, no training can bring reversing to the goal.
    assert list(result["right"]) == ([2] if variant == "no positions" else [1, 2])
    sizes = tasks.OTHER_SIZES if variant == "whole" else ()
    assert list(result["sizes"]) == list(sizes)


def test_training_ends_with_the_first_that_suffices(monkeypatch):
    monkeypatch.setattr(tasks, "NUM_ASKED", 5)
    monkeypatch.setattr(tasks, "GOAL", 0.0)
    _, learned = tasks.learn(TEXT_TASKS["sort"], tasks.VARIANTS[0], 0, [1, 2, 4])
    assert learned.steps == 1
    assert list(learned.right) == [1]


def test_trainings_are_no_longer_than_a_trial_allows():
    assert tasks.trainings_for("sort", "whole", 800) == [200, 400, 800]
    assert tasks.trainings_for("sort", "whole", 500) == [200, 400]
    assert tasks.trainings_for("sort", "whole", 3) == [3]
    assert tasks.trainings_for("shift by a hidden key", "whole", 800) == [800]


def test_an_exam_asks_every_held_out_word_once():
    asked = tasks.exam(tasks.german_task())
    assert len(asked) == len(set(asked)) == 103


def test_german_in_letters_is_trained_once(monkeypatch):
    run = {"steps": 2, "right": {"2": 0.5}, "cpu_seconds_a_step": 0.1, "sizes": {}}
    monkeypatch.setattr(tasks, "run_task", lambda *_: run)
    result = tasks.run_subwords.__wrapped__(0, 0, 2)
    assert result["right"] == {"2": 0.5}
    assert 21 < result["mean_length"] < 23


def test_practice_is_compared_with_a_training_that_is_as_long(monkeypatch):
    monkeypatch.setattr(tasks, "NUM_ASKED", 3)
    monkeypatch.setattr(tasks, "BATCH_SIZE", 2)
    monkeypatch.setattr(tasks, "LABELLED", (4,))
    lengths = []
    recipe = tasks.recipe
    monkeypatch.setattr(
        tasks, "recipe", lambda steps: lengths.append(steps) or recipe(steps)
    )
    runs = tasks.run_pretraining.__wrapped__(0, 2)
    assert [run["model"] for run in runs] == [
        "pretrained",
        "new",
        "new, trained longer",
    ]
    assert lengths == [2, 2, 2, 4]


def test_only_some_tasks_have_examples_of_other_sizes():
    without = {name for name, task in TEXT_TASKS.items() if not tasks.has_sizes(task)}
    assert without == {
        "Roman numerals",
        "dates",
        "English words",
        "German words",
        "Japanese words",
    }


def test_a_few_labelled_words_are_different_and_not_held_out():
    task = tasks.german_task()
    chosen = tasks.few(task, 60, torch.Generator().manual_seed(0))
    assert len(dict(chosen)) == 60
    assert not {source for source, _ in chosen} & {s for s, _ in tasks.exam(task)}


def test_gaps_and_digits_share_their_symbols():
    gaps, reading = tasks.gap_tasks()
    assert gaps.src_symbols == reading.src_symbols
    assert gaps.tgt_symbols == reading.tgt_symbols
    pairs = gaps.pairs(300, torch.Generator().manual_seed(0), held_out=False)
    assert {*"".join(source for source, _ in pairs)} <= {*gaps.src_symbols}
    for source, target in pairs:
        first, second = target[1:].split("B")
        assert target[0] == "A"
        filled = source.replace("A", first).replace("B", second)
        assert german(int_of(filled)) == filled


def int_of(word):
    return next(number for number in range(1, 1_000) if german(number) == word)


def stored_tasks():
    return json.loads((measure.RESULTS / "tasks.json").read_text("utf-8"))


def test_what_companion_d_says_of_the_stored_text_tasks():
    stored = stored_tasks()
    runs = {(each["task"], each["variant"]): each["runs"] for each in stored["tasks"]}
    for run in runs["shift by a hidden key", "whole"]:
        assert run["steps"] is None
        # A third is right at best; the exam has 300 examples.
        assert max(run["right"].values()) < 0.45
    learned = [
        name
        for name in TEXT_TASKS
        if all((run["steps"] or math.inf) <= 400 for run in runs[name, "whole"])
    ]
    assert len(learned) > len(TEXT_TASKS) / 2
    for run in runs["reverse", "no positions"]:
        # 5.3 % of all words at best; the exam has 300 examples.
        assert max(run["right"].values()) < 0.11
    for run in runs["sort", "no positions"]:
        assert 0.6 < max(run["right"].values()) < 0.99
    for side in ("encoder", "decoder"):
        for name in ("reverse", "sort"):
            for run in runs[name, f"no self-attention, {side}"]:
                assert run["steps"] <= 400


def test_what_companion_d_says_of_other_lengths():
    runs = {
        each["task"]: [run["sizes"] for run in each["runs"]]
        for each in stored_tasks()["tasks"]
        if each["variant"] == "whole"
    }

    def mean(name, size):
        return sum(sizes[size] for sizes in runs[name]) / len(runs[name])

    assert mean("remove duplicates", "1") > 0.9
    # What a reader of eight letters scores, and twice its deviation in 300 questions.
    for size, of_eight in (("9", 0.77), ("10", 0.61), ("12", 0.41)):
        assert mean("remove duplicates", size) > of_eight + 0.06
    assert mean("close brackets", "10") < 0.7
    assert mean("close brackets", "1") < 0.5
    for name in ("reverse", "sort", "shift by 3", "shift by a key"):
        assert max(sizes["12"] for sizes in runs[name]) < 0.1


def test_what_companion_d_says_of_pretraining():
    right = {}
    for run in stored_tasks()["pretraining"]:
        right.setdefault((run["labelled"], run["model"]), []).append(run["right"])
    mean = {key: sum(shares) / len(shares) for key, shares in right.items()}
    gain = {
        count: mean[count, "pretrained"] - mean[count, "new"]
        for count in tasks.LABELLED
    }
    assert min(gain.values()) > 0
    assert max(gain, key=gain.get) == 60
    assert mean[120, "new"] > 0.5
    for count in tasks.LABELLED:
        assert mean[count, "new, trained longer"] > mean[count, "pretrained"] + 0.02


def test_what_companion_d_says_of_the_stored_subwords():
    letters, *_, symbols = (each["runs"] for each in stored_tasks()["subwords"])
    assert 6 < letters[0]["mean_length"] / symbols[0]["mean_length"] < 8

    def median_step(runs):
        return statistics.median(run["cpu_seconds_a_step"] for run in runs)

    assert 2 < median_step(letters) / median_step(symbols) < 3
    steps = [[run["steps"] or math.inf for run in runs] for runs in (letters, symbols)]
    assert min(steps[0]) <= max(steps[1])
