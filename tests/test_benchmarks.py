"""What benchmarks share, and the files that the page "Measured" reads."""

import json

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from benchmarks import measure, seeds


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


@pytest.mark.parametrize("name", ["book", "decoding", "training", "learning", "seeds"])
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


def notebook_that_prints(*texts, error=None):
    """Code cells with these outputs; the last one ends with an error."""
    cells = []
    for text in texts:
        output = new_output("stream", name="stdout", text=text)
        cells.append(new_code_cell(outputs=[output]))
    if error is not None:
        output = new_output("error", ename="ValueError", evalue=error, traceback=[])
        cells[-1].outputs.append(output)
    return new_notebook(cells=cells)


def test_a_run_contradicts_where_the_book_says_true_and_the_run_does_not():
    book = notebook_that_prints(
        "loss 2.1\nlow: True\nhigh: False\n", "all: [True, True]\n"
    )
    assert seeds.count_claims(book) == 2

    other = notebook_that_prints(
        "loss 3.4\nlow: True\nhigh: True\n", "all: [True, True]\n"
    )
    assert seeds.contradictions(book, book) == []
    assert seeds.contradictions(book, other) == []

    worse = notebook_that_prints("loss 2.1\nlow: False\n", "all: [True, False]\n")
    assert seeds.contradictions(book, worse) == ["low: False", "all: [True, False]"]

    silent = notebook_that_prints("loss 2.1\n", "all: [True, True]\n", error="NaN")
    expected = ["nothing in place of: low: True", "ValueError: NaN"]
    assert seeds.contradictions(book, silent) == expected


def test_an_error_that_the_book_shows_contradicts_nothing():
    book = notebook_that_prints("before: True\n", error="as intended")
    assert seeds.contradictions(book, book) == []


def test_other_seeds_are_far_from_those_of_the_book():
    source = "torch.manual_seed(3)\nrun(seed=0)"
    assert seeds.with_other_seeds(source, 0) == source
    assert "torch.manual_seed(2000 + 3)" in seeds.with_other_seeds(source, 2)


def test_every_range_over_ten_runs_comes_from_ten_runs():
    stored = json.loads((measure.RESULTS / "seeds.json").read_text("utf-8"))
    assert {chapter["chapter"] for chapter in stored["chapters"]} == set(
        seeds.chapters_with_seeds()
    )
    for chapter in stored["chapters"]:
        assert [run["run"] for run in chapter["runs"]] == list(range(10))
        assert ("measured" in chapter["runs"][0]) == (
            chapter["chapter"] in seeds.MEASURES
        )
