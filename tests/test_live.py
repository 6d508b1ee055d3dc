"""The models that readers use in the page, as they are stored."""

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import live
from benchmarks.parts import RECIPE
from transformer import END, START, AdditionTask, load_checkpoint
from transformer.notebook import read_results

BOOK = Path(__file__).parent.parent / "book"
STORED = read_results("live")
NAMES = [*(f"sum-{moment}" for moment in live.MOMENTS), *live.COPIERS]


def code(chapter):
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def test_every_model_is_stored_and_no_other():
    assert {path.stem for path in live.FILES.glob("*.safetensors")} == set(NAMES)
    assert list(STORED["right"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_package_loads_a_stored_model_in_float16(name):
    model = load_checkpoint(live.FILES / f"{name}.safetensors")
    assert {weight.dtype for weight in model.parameters()} == {torch.float16}
    assert {weight.dtype for weight in live.load(name).parameters()} == {torch.float32}
    assert not model.training


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_model_is_the_one_that_was_counted(name):
    assert STORED["sha256"][name] == live.digest(name)


def test_the_adding_models_are_stored_at_the_exams_of_chapter_9():
    chapter = code("09_addition")
    (num_steps,) = re.findall(r"^num_steps, batch_size = ([\d_]+), 64$", chapter, re.M)
    (exams,) = re.findall(r"^exams = \[(.+), num_steps\]$", chapter, re.M)
    assert int(num_steps) == RECIPE.num_steps
    assert [*map(int, exams.split(",")), int(num_steps)] == list(live.MOMENTS)


def test_the_page_names_the_same_moments():
    script = (BOOK / "_static/live/sum.js").read_text("utf-8")
    (moments,) = re.findall(r"MOMENTS = \[(.+)\];", script)
    assert tuple(map(int, moments.split(","))) == live.MOMENTS


@pytest.mark.parametrize(
    ("name", "chapter"), [("copy", "08_copy"), ("unsure", "07_inference")]
)
def test_a_copier_is_trained_as_long_as_in_its_chapter(name, chapter):
    steps = re.findall(r"num_steps=(\d+)", code(chapter))
    assert int(steps[0]) == live.COPIERS[name]


@pytest.mark.parametrize("name", live.COPIERS)
def test_a_copier_copies_as_many_sources_as_is_stored(name):
    # Another processor may round the other way where two tokens are all but equally likely.
    assert live.count_right(name) == pytest.approx(STORED["right"][name], abs=3)


@pytest.mark.parametrize("name", ["sum-300", "sum-1800"])
def test_as_many_of_a_sample_of_sums_are_right_as_is_stored(name):
    task = AdditionTask(num_digits=2)
    generator = torch.Generator().manual_seed(0)
    pairs = task.all_pairs()[torch.randperm(10_000, generator=generator)[:500]]
    decoded = live.load(name).greedy_decode(task.make_batch(pairs).src, 5, START, END)
    is_right = task.read_sums(decoded) == pairs.sum(dim=1)
    share = STORED["right"][name] / 10_000
    spread = (share * (1 - share) / 500) ** 0.5
    assert is_right.float().mean().item() == pytest.approx(share, abs=4 * spread)
