"""The models that readers use in the page, as they are stored."""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import live
from benchmarks.parts import RECIPE
from transformer import END, PAD, START, AdditionTask, load_checkpoint
from transformer.decoding import decode_uncached
from transformer.intervention import edit_attention
from transformer.notebook import read_model, read_results
from transformer.observation import record_attention
from transformer.sampling import Sampler

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


@pytest.mark.parametrize("name", live.PACKAGED)
def test_the_package_brings_the_same_model_along(name):
    stored, packaged = live.load(name), read_model(name)
    assert packaged.config == stored.config
    for weight, other in zip(packaged.parameters(), stored.parameters(), strict=True):
        assert torch.equal(weight, other)


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
    assert live.count_exact(name) == pytest.approx(STORED["right"][name], abs=3)


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


# What the page tells its readers of the stored models

TEXTS = json.loads((BOOK / "live/texts.json").read_text("utf-8"))
CROSS = [f"decoder.layers.{layer}.cross_attention" for layer in range(2)]
ENCODER = [f"encoder.layers.{layer}.self_attention" for layer in range(2)]
TASK = AdditionTask(num_digits=2)
PAIRS = TASK.all_pairs()


def why(widget, at):
    return TEXTS[widget]["tries"][at]["why"]


def hidden(modules, cells, heads=range(4)):
    """Edits that hide `cells`, `(query, key)`, in some heads."""

    def hide(query, key, value, mask):
        mask = mask.expand(-1, 4, query.size(1), key.size(1)).clone()
        for head, (row, column) in itertools.product(heads, cells):
            if row < query.size(1):
                mask[:, head, row, column] = False
        return query, key, value, mask

    return dict.fromkeys(modules, hide)


def sums(pairs, edits):
    """What the last model answers, `[pairs]`."""
    model = live.load("sum-1800")
    with edit_attention(model, edits):
        decoded = decode_uncached(model, TASK.make_batch(pairs).src, 5, START, END)
    return TASK.read_sums(decoded)


def copied(name, symbols, edits=None):
    model = live.load(name)
    with edit_attention(model, edits or {}):
        rows = decode_uncached(
            model, torch.tensor([symbols]), len(symbols) + 2, START, END
        )
    return rows[0].tolist()


def test_hidden_tens_are_made_up_for_by_the_other_tens():
    first, second = PAIRS.T
    carry = (first % 10 + second % 10) // 10
    answers = []
    for key, other in [(0, second // 10), (3, first // 10)]:
        edits = hidden(CROSS, [(1, key)])
        answers.append(sums(torch.tensor([[57, 26]]), edits).item())
        tens = sums(PAIRS, edits) // 10 % 10
        is_doubled = (tens == (2 * other + carry) % 10).sum().item()
        assert is_doubled == pytest.approx(6_000, abs=150)
    assert why("sum", 0).startswith(f"{answers[0]:03}, then {answers[1]:03}.")
    assert "in about 6,000" in why("sum", 0)


def test_the_moments_answer_as_is_said():
    src = TASK.make_batch(torch.tensor([[57, 26]])).src
    names = ["sum-100", "sum-200", "sum-300"]
    decoded = [live.load(name).greedy_decode(src, 5, START, END) for name in names]
    answers = [f"{TASK.read_sums(one).item():03}" for one in decoded]
    assert why("sum", 1).startswith("{}, {} and {}.".format(*answers))
    counts = [f"{STORED['right'][name]:,}" for name in names]
    assert "{}, {} and {} are right".format(*counts) in why("sum", 1)


def test_one_cell_is_enough():
    edits = hidden(CROSS[1:], [(2, 1)], heads=[1])
    assert sums(torch.tensor([[57, 26]]), edits).item() == 82
    assert (sums(PAIRS, edits) != PAIRS.sum(dim=1)).sum() > 5_100
    batch = TASK.make_batch(torch.tensor([[57, 26]]))
    model = live.load("sum-1800")
    with torch.no_grad(), record_attention(model) as maps:
        model(batch.src, batch.tgt_in)
    on_7 = torch.stack([maps[module][0, :, 2, 1] for module in CROSS])
    assert on_7.argmax().item() == 4 + 1


def test_units_that_cannot_see_each_other():
    edits = hidden(ENCODER, [(1, 4), (4, 1)])
    answer = sums(torch.tensor([[57, 26]]), edits).item()
    assert f"57 + 26 becomes {answer:03}." in why("sum", 4)
    right = (sums(PAIRS, edits) == PAIRS.sum(dim=1)).sum().item()
    assert right == pytest.approx(int(why("sum", 4)[:5].replace(",", "")), abs=10)


def test_copies_are_as_is_said():
    nine = [5, 9, 12, 7, 3, 10, 4, 8, 6]
    assert copied("copy", nine) == [START, *nine[:8], END]
    assert copied("copy", [12] * 3) == [START, *[12] * 4]
    assert copied("copy", [5] * 3) == [START, *[5] * 3, END]
    six = [5, 9, 12, 7, 3, 14]
    assert copied("copy", six, hidden(CROSS, [(0, 0)])) == [START, 9, *six[1:], END]
    for module, head in itertools.product(CROSS, range(4)):
        edits = hidden([module], [(0, 0)], [head])
        assert copied("copy", six, edits) == [START, *six, END]


def test_beams_prefer_what_is_said():
    model, src = live.load("unsure"), torch.tensor([[14, 11, 12]])
    greedy = model.greedy_decode(src, 10, START, END)
    best = model.beam_search(src, 10, START, END, 4)
    assert greedy[0].tolist() == [START, 14, 11, 12, END]
    assert best.tokens[0].tolist() == [START, 14, 11, 12, 12, END]
    for tokens in (greedy, best.tokens):
        with torch.no_grad():
            logits = model(src, tokens[:, :-1])
        logits[..., PAD] = -torch.inf
        logs = logits.log_softmax(dim=-1).gather(-1, tokens[:, 1:, None])
        for score in (logs.sum(), logs.mean()):
            text = f"{score.item():.3f}".replace("-", "\N{MINUS SIGN}")
            assert text in why("decode", 2)


def test_top_p_keeps_as_many_as_is_said():
    model = live.load("unsure")
    src = torch.tensor([[5, 9, 12, 7, 3, 10, 4, 8]])
    counts, likeliest = [], []
    for prefix in ([START], [START, 5, 9, 5, 12]):
        with torch.no_grad():
            logits = model(src, torch.tensor([prefix]))[:, -1]
        logits[:, PAD] = -torch.inf
        counts.append((Sampler(top_p=0.8).probabilities(logits) > 0).sum().item())
        likeliest.append(f"{100 * logits.softmax(dim=-1).max().item():.0f} %")
    assert why("decode", 0).startswith("{} and {}.".format(*counts))
    assert all(share in why("decode", 0) for share in likeliest)
