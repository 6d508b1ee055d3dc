"""The benchmark behind companion E: ways to train, each a change of chapter 9's."""

import ast
import inspect
import itertools
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import defined_in

from benchmarks import improving, measure, variants
from benchmarks.learning import ORIGINAL, RECIPES
from benchmarks.variants import Variant
from transformer import END, START, AdditionTask, Transformer, count_parameters

STORED = json.loads((measure.RESULTS / "improving.json").read_text("utf-8"))
TINY = (("d_model", 8), ("num_heads", 2), ("d_ff", 8), ("num_encoder_layers", 1))
BY_NAME = {variant.name: variant for variant in improving.VARIANTS}


def text_of(batch):
    """Source and target of the first row, as characters; the frame is checked."""
    assert batch.tgt_in[0, 0] == START
    assert batch.tgt_out[0, -1] == END
    assert torch.equal(batch.tgt_in[:, 1:], batch.tgt_out[:, :-1])
    names = {3: "+", variants.MINUS: "-"} | {
        4 + digit: str(digit) for digit in range(10)
    }
    rows = batch.src[0].tolist(), batch.tgt_out[0, :-1].tolist()
    return tuple("".join(names[token] for token in row) for row in rows)


@pytest.mark.parametrize(
    ("writing", "a", "b", "source", "target"),
    [
        ("sum", 57, 26, "57+26", "083"),
        ("sorted", 57, 26, "26+57", "083"),
        ("units first", 57, 26, "57+26", "380"),
        # 7 + 6 = 13, 5 + 2 + 1 = 08, then the sum.
        ("scratchpad", 57, 26, "57+26", "1308083"),
        ("scratchpad", 99, 1, "99+01", "1010100"),
        ("difference", 26, 57, "26-57", "-31"),
        ("difference", 57, 26, "57-26", "+31"),
        ("difference", 5, 5, "05-05", "+00"),
    ],
)
def test_how_an_example_is_written(writing, a, b, source, target):
    write = variants.WRITINGS[writing]
    assert text_of(write(AdditionTask(2), torch.tensor([[a, b]]))) == (source, target)


@pytest.mark.parametrize("writing", variants.WRITINGS)
def test_the_answer_is_found_whatever_stands_before_it(writing):
    variant = Variant("", writing=writing)
    task, pairs = AdditionTask(2), AdditionTask(2).all_pairs()
    tokens = variants.WRITINGS[writing](task, pairs).tgt_out
    found = variants.answer(variant, tokens)
    if writing == "difference":
        sign = torch.where(found[:, 0] == variants.MINUS, -1, 1)
        numbers = sign * ((found[:, 1:] - 4) @ torch.tensor([10, 1]))
        assert torch.equal(numbers, pairs[:, 0] - pairs[:, 1])
    else:
        numbers = (found - 4) @ torch.tensor([100, 10, 1])
        assert torch.equal(numbers, pairs.sum(dim=1))


def chain_by_hand(a, b, num_digits):
    """Follow every carry from the column that makes it."""
    columns = [a // 10**n % 10 + b // 10**n % 10 for n in range(num_digits)]
    return max(
        (
            1 + len(list(itertools.takewhile(lambda c: c == 9, columns[start + 1 :])))
            for start, column in enumerate(columns)
            if column > 9
        ),
        default=0,
    )


def test_a_carry_chain_begins_at_ten_and_goes_on_at_nine():
    pairs = AdditionTask(2).all_pairs()
    chains = variants.carry_chain(pairs, 2).tolist()
    assert chains == [chain_by_hand(a, b, 2) for a, b in pairs.tolist()]
    # 55 of a hundred pairs of digits make no carry; of those that do, a tenth travels on.
    assert Counter(chains) == {0: 55 * 55, 1: 10_000 - 55 * 55 - 450, 2: 450}
    three = AdditionTask(3).draw(997, torch.Generator().manual_seed(0))
    assert variants.carry_chain(three, 3).tolist() == [
        chain_by_hand(a, b, 3) for a, b in three.tolist()
    ]


def taken(variant, count):
    generator = torch.Generator().manual_seed(0)
    seen = variants.choose_pairs(variant, generator).seen
    diet = variants.DIETS[variant.diet](variant, seen, generator)
    return list(itertools.islice(diet, count))


def test_a_batch_with_mirrors_holds_both_orders_of_every_pair():
    (batch,) = taken(Variant("", diet="mirrored", batch_size=10), 1)
    assert batch.shape == (10, 2)
    assert torch.equal(batch[:5], batch[5:].flip(1))


def test_one_order_never_has_the_larger_number_first():
    batches = taken(Variant("", diet="one order"), 80)
    pairs = torch.cat(batches)
    assert (pairs[:, 0] <= pairs[:, 1]).all()
    assert (pairs[:, 0] == pairs[:, 1]).any()


def test_easy_pairs_come_first_and_then_all():
    variant = Variant("", diet="easy first", num_examples=640)
    chains = [variants.carry_chain(batch, 2) for batch in taken(variant, 10)]
    assert [bool(chain.any()) for chain in chains] == [False] * 2 + [True] * 8


@pytest.mark.parametrize("num_digits", [2, 3, 4])
def test_nothing_that_is_held_out_is_trained_on_in_either_order(num_digits):
    variant = Variant("", num_digits=num_digits)
    pairs = variants.choose_pairs(variant, torch.Generator().manual_seed(1))

    def codes(rows):
        ordered = rows.sort(dim=1).values
        return set((ordered @ torch.tensor([10**num_digits, 1])).tolist())

    held_out = [pairs.asked]
    if num_digits > 2:
        held_out += [pairs.asked_at_the_end, *pairs.by_chain]
    seen = codes(pairs.seen)
    for rows in held_out:
        assert codes(rows).isdisjoint(seen)
    assert len(pairs.asked_at_the_end) == 10_000
    for length, rows in enumerate(pairs.by_chain):
        assert len(rows) >= variants.NUM_OF_CHAIN
        assert (variants.carry_chain(rows, num_digits) == length).all()
    assert len(pairs.seen) >= 9_000


def test_as_many_pairs_are_seen_as_a_variant_says():
    few = Variant("", num_pairs=500)
    all_of_them = Variant("")
    one, other = (
        variants.choose_pairs(v, torch.Generator().manual_seed(2))
        for v in (few, all_of_them)
    )
    assert torch.equal(one.seen, other.seen[:500])
    assert torch.equal(one.asked, other.asked)


def test_the_path_begins_with_the_originals_recipe_and_ends_with_chapter_9s():
    first, *_, last = improving.PATH
    original = variants.build_model(first)
    recipe = RECIPES[-1]
    assert str(original) == str(Transformer(14, 14, **recipe.sizes))
    assert recipe.sizes == ORIGINAL
    (adam,), schedules = variants.build_update(first, original)
    assert (type(adam), adam.defaults["lr"], schedules) == (torch.optim.Adam, 5e-4, [])
    assert last == improving.OURS
    assert last.num_steps == RECIPES[0].num_steps
    assert count_parameters(variants.build_model(last)) == 236_430


@pytest.mark.parametrize(
    "name", [v.name for v in improving.VARIANTS if not v.has_cycle]
)
def test_a_constant_learning_rate_is_the_variants_own_from_the_first_step(name):
    variant = BY_NAME[name]
    update = variants.build_update(variant, variants.build_model(variant))
    rates = [group["lr"] for group in update.param_groups]
    assert (rates, update.schedules) == ([variant.learning_rate], [])


def test_each_change_of_the_path_is_taken_back_once():
    # A step of the path changes some fields; so does the variant that takes it back.
    def differs(one, other):
        fields = {f for f in Variant._fields if f != "name"}
        sizes = dict(one.sizes).items() ^ dict(other.sizes).items()
        found = {f for f in fields - {"sizes"} if getattr(one, f) != getattr(other, f)}
        return frozenset(found | {name for name, _ in sizes})

    path = {differs(*step) for step in itertools.pairwise(improving.PATH)}
    back = {differs(variant, improving.OURS) for variant in improving.TAKEN_BACK}
    # The rate of the old recipe is Adam's in one and AdamW's in the other.
    assert path == back
    assert len(back) == len(improving.TAKEN_BACK) == len(improving.PATH) - 1


def test_names_are_unique_and_each_variant_can_be_built():
    everything = [v for family in improving.FAMILIES.values() for v in family]
    assert len(set(everything)) == len({v.name for v in everything}) == len(BY_NAME)
    for variant in improving.VARIANTS:
        model = variants.build_model(variant)
        assert variants.build_update(variant, model).param_groups
        assert variant.num_examples % variant.exam_every == 0
        assert variant.exam_every % variant.batch_size == 0


@pytest.mark.parametrize("writing", variants.WRITINGS)
def test_a_right_answer_counts_and_a_wrong_one_does_not(writing):
    variant, task = Variant("", writing=writing), AdditionTask(2)
    pairs = torch.tensor([[57, 26], [7, 5], [99, 99]])
    batch = variants.WRITINGS[writing](task, pairs)
    rows = torch.cat([batch.tgt_in[:, :1], batch.tgt_out], dim=1)

    class Writes:
        def greedy_decode(self, *_):
            return rows

    assert variants.right_digits(variant, Writes(), pairs).all()
    last = rows.size(1) - 2
    rows[1, last] = 4 + (rows[1, last] - 3) % 10
    place = 0 if writing == "units first" else 2
    right = variants.right_digits(variant, Writes(), pairs)
    assert right.sum() == 8
    assert not right[1, place]
    rows[2, -1] = 4
    assert variants.right_digits(variant, Writes(), pairs).sum() == 5
    assert variants.share_right(variant, Writes(), pairs) == pytest.approx(1 / 3)


def test_a_wrong_note_does_not_count_if_the_sum_is_right():
    variant, pairs = Variant("", writing="scratchpad"), torch.tensor([[57, 26]])
    batch = variants.write_scratchpad(AdditionTask(2), pairs)
    rows = torch.cat([batch.tgt_in[:, :1], batch.tgt_out], dim=1)
    rows[0, 1] = 4

    class Writes:
        def greedy_decode(self, *_):
            return rows

    assert variants.share_right(variant, Writes(), pairs) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"is_averaged": True, "optimizer": "Adam", "has_cycle": False},
        {"optimizer": "Muon", "modern": improving.MODERN[-1].modern},
        {"writing": "difference", "diet": "mirrored"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_run_says_what_it_has_found(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "KEPT", tmp_path)
    variant = Variant("tiny", sizes=TINY, num_examples=128, exam_every=64, **changes)
    result = variants.run(variant, 3, 2)
    assert result["seed"] == 3
    assert len(result["held_out_right"]) == 2
    assert 0 <= result["all_right"] < 1_000
    assert len(result["right_by_place"]) == 3
    assert len(result["right_by_chain"]) == 3
    assert result["milliseconds_per_step"] > 0
    assert variants.run(variant, 3, 2) == result


def test_exams_of_averaged_weights_ask_the_average(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "KEPT", tmp_path)
    asked = []
    monkeypatch.setattr(
        variants, "share_right", lambda _v, model, _p: asked.append(model)
    )
    plain = Variant("tiny", sizes=TINY, num_examples=128, exam_every=64)
    for variant in (plain, plain._replace(is_averaged=True)):
        variants.run(variant, 0, 2)
    trained, averaged = asked[0], asked[-1]
    weights = [model.output_projection.weight for model in (trained, averaged)]
    assert not torch.equal(*weights)


def test_every_variant_is_run_with_every_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "KEPT", tmp_path)
    # One thread: random numbers belong to the whole process.
    one_thread = ThreadPoolExecutor(1)
    monkeypatch.setattr(improving, "ProcessPoolExecutor", lambda _cores: one_thread)
    tiny = [
        Variant(name, sizes=TINY, num_examples=128, exam_every=64)
        for name in ("a", "b")
    ]
    results = improving.collect(tiny, range(2), num_steps=1)
    assert [variant["name"] for variant in results["variants"]] == ["a", "b"]
    for variant in results["variants"]:
        assert [run["seed"] for run in variant["runs"]] == [0, 1]
        assert [len(run["held_out_right"]) for run in variant["runs"]] == [1, 1]
        assert variant["steps"] == 2


def test_what_is_stored_belongs_to_a_variant():
    assert STORED["date"] >= "2026"
    assert {"python", "torch"} <= set(STORED["versions"])
    assert STORED["families"] == {
        name: [v.name for v in family] for name, family in improving.FAMILIES.items()
    }
    assert [stored["name"] for stored in STORED["variants"]] == list(BY_NAME)
    for stored in STORED["variants"]:
        variant = BY_NAME[stored["name"]]
        assert stored["steps"] == variant.num_steps
        assert stored["parameters"] == count_parameters(variants.build_model(variant))
        assert [run["seed"] for run in stored["runs"]] == list(improving.SEEDS)
        for run in stored["runs"]:
            exams = variant.num_examples // variant.exam_every
            assert len(run["held_out_right"]) == exams


@pytest.mark.parametrize("name", ["columns", "carry_chain"])
def test_the_companion_shows_what_is_measured(name):
    (shown,) = defined_in("companion_e_improving_addition", name)
    source = ast.parse(inspect.getsource(variants))
    (measured,) = (s for s in source.body if getattr(s, "name", None) == name)
    measured.body = [s for s in measured.body if not isinstance(s, ast.Expr)]
    shown.body = [s for s in shown.body if not isinstance(s, ast.Expr)]
    for function in (shown, measured):
        function.returns = None
        for argument in function.args.args:
            argument.annotation = None
    assert ast.dump(shown) == ast.dump(measured)
