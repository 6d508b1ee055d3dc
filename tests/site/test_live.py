"""The figures that can be used: what a reader does, and whether the package agrees.

`make site-test` compares samples; `LONG=1 make site-test` compares all 10,000 sums.
"""

import functools
import itertools
import json
import os
import time

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from conftest import HTML, ROOT, chromium_only
from live import FIGURES
from playwright.sync_api import expect

from benchmarks import live as stored
from transformer import END, PAD, START, AdditionTask, CopyTask
from transformer.batching import make_batch
from transformer.decoding import decode_uncached
from transformer.intervention import edit_attention
from transformer.masks import causal_mask, padding_mask
from transformer.notebook import read_results
from transformer.observation import record_attention
from transformer.sampling import Sampler

TEXTS = json.loads((ROOT / "book/live/texts.json").read_text("utf-8"))
PAGES = [f"{page}.html" for page in FIGURES]
PLACES = [(f"{page}.html", figure) for page in FIGURES for figure in FIGURES[page]]
COPYING = ("book/08_copy.html", "fig-copy-attention")
ADDING = ("book/09_addition.html", "fig-addition-cross")
DECODING = ("book/07_inference.html", "fig-filters")
MASKING = ("book/05_data.html", "fig-target-mask")
SUMS = [f"sum-{moment}" for moment in stored.MOMENTS]
MODELS = [*SUMS, *stored.COPIERS]
#: Sums that no two moments answer alike, but the last two.
TELLING = [(38, 78), (76, 24), (91, 29)]

every_figure = pytest.mark.parametrize(("name", "figure"), PLACES)
every_model = pytest.mark.parametrize("model_name", MODELS)
light_and_dark = pytest.mark.parametrize(
    ("color_scheme", "width"), [("light", 1280), ("dark", 360)]
)

# Weights have to be loaded first, on whatever machine this is.
expect.set_options(timeout=20_000)

#: By kind of widget: a field, what may not stand in it, and what may.
INPUTS = {
    "sum": ("a", ["100", "", "-1", "x"], "12"),
    "copy": ("source", ["2 3 4", "", "-1", "x"], "3 4 5"),
    "decode": ("source", ["2 3 4", "", "-1", "x"], "3 4 5"),
    "masks": ("row1", ["2", "", "x", "3 4 5 6 7 8 9"], "3 4"),
}
#: Where a widget shows what follows from its input, but for the answer.
SHOWN = "[data-map], table"


def find(page, figure):
    return page.locator(f"#{figure} [data-live]")


def open_figure(page, figure):
    """Press the button; the widget, once it is there."""
    container = find(page, figure)
    container.locator("[data-open]").click()
    container.locator(".live-panel").wait_for()
    return container


def kind_of(container):
    return container.get_attribute("data-live")


def type_in(container, **values):
    """Fill in fields, and press Enter in the last."""
    for name, value in values.items():
        field = container.locator(f"[name={name}]")
        field.fill(value)
    field.press("Enter")
    return field


# Opening


@every_figure
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_figure_opens_without_trouble(visit, from_disk, name, figure, offline, by):
    if offline:
        started, home = from_disk(name), HTML.as_uri()
    else:
        started = visit()
        started.open(name)
        home = started.origin
    page = started.page
    container = find(page, figure)
    button = container.locator("[data-open]")
    button.scroll_into_view_if_needed()
    if by == "mouse":
        button.click()
    else:
        button.focus()
        page.keyboard.press("Enter")
    container.locator(".live-panel").wait_for()
    expect(container.locator("img")).to_be_hidden()
    assert started.troubles == []
    assert [u for u in started.requested if not u.startswith((home, "data:"))] == []

    # The button is gone, but not the place of the keyboard.
    page.keyboard.press("Tab")
    assert container.locator(".live-panel :focus").count() == 1


@chromium_only
@every_figure
@pytest.mark.parametrize("width", [360, 412, 600, 1280])
def test_nothing_moves_when_a_figure_opens(visit, name, figure, width):
    page = visit(width=width).open(name)
    container = find(page, figure)
    button = container.locator("[data-open]")
    button.scroll_into_view_if_needed()
    # What moves within half a second of a click is expected, and would not be counted.
    page.route("**/_static/live/texts.js*", lambda r: (time.sleep(0.8), r.continue_()))
    page.evaluate(
        """() => {
          window.shift = 0;
          new PerformanceObserver(list => {
            for (const entry of list.getEntries()) {
              if (!entry.hadRecentInput) window.shift += entry.value;
            }
          }).observe({type: "layout-shift"});
        }"""
    )
    button.click()
    container.locator(".live-panel").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("window.shift") < 0.01


@pytest.mark.parametrize("name", [*PAGES, "book/02_architecture.html"])
def test_before_the_reader_asks_only_what_can_open_is_loaded(visit, name):
    started = visit()
    started.open(name)
    started.scroll_through()
    folder = "/_static/live/"
    loaded = {
        url.partition(folder)[2].partition("?")[0]
        for url in started.requested
        if folder in url
    }
    assert loaded == ({"live.js", "live.css"} if name in PAGES else set())


@chromium_only
@every_figure
def test_without_scripts_there_is_the_figure_and_no_button(visit, name, figure):
    page = visit(java_script_enabled=False).open(name)
    container = find(page, figure)
    expect(container.locator("img")).to_be_visible()
    expect(container.locator("[data-open]")).to_be_hidden()


@chromium_only
@every_figure
def test_on_paper_there_is_the_figure_whether_it_is_open_or_not(visit, name, figure):
    page = visit().open(name)
    container = find(page, figure)
    for _ in ("closed", "open"):
        page.emulate_media(media="print")
        expect(container.locator("img")).to_be_visible()
        expect(container.locator(":is(button, input, p):visible")).to_have_count(0)
        page.emulate_media(media="screen")
        if container.locator(".live-panel").count() == 0:
            open_figure(page, figure)


@every_figure
def test_a_figure_that_could_not_be_loaded_says_so_and_can_be_tried_again(
    visit, name, figure
):
    page = visit().open(name)
    page.route("**/_static/live/texts.js*", lambda route: route.abort())
    container = find(page, figure)
    button = container.locator("[data-open]")
    button.click()
    expect(container.get_by_role("status")).to_have_text(TEXTS["open"]["failed"])
    expect(button).to_be_enabled()
    expect(container.locator("img")).to_be_visible()
    page.unroute_all()
    open_figure(page, figure)


# Using


@every_figure
def test_wrong_input_is_answered_but_not_with_an_answer(visit, name, figure):
    started = visit()
    container = open_figure(started.open(name), figure)
    kind = kind_of(container)
    field_name, wrong, right = INPUTS[kind]
    shown = container.locator(SHOWN)
    before = shown.all_inner_texts()
    answer = container.get_by_role("status").filter(has_text=TEXTS[kind]["wrongInput"])
    for value in wrong:
        field = type_in(container, **{field_name: value})
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(answer).to_be_visible()
        assert shown.all_inner_texts() == before
        assert "".join(container.locator("[data-answer]").all_inner_texts()) == ""
    field = type_in(container, **{field_name: right})
    expect(field).not_to_have_attribute("aria-invalid", "true")
    expect(answer).to_have_count(0)
    assert shown.all_inner_texts() != before
    assert started.troubles == []


@every_figure
def test_the_figure_comes_back_and_opens_again(visit, name, figure):
    started = visit()
    page = started.open(name)
    for _ in range(2):
        container = open_figure(page, figure)
        shown = container.locator(SHOWN).all_inner_texts()
        field_name, _, right = INPUTS[kind_of(container)]
        type_in(container, **{field_name: right})
        assert container.locator(SHOWN).all_inner_texts() != shown
        container.get_by_role("button", name=TEXTS["all"]["back"]).click()
        expect(container.locator("img")).to_be_visible()
        expect(container.locator(".live-panel")).to_have_count(0)
        expect(container.locator("[data-open]")).to_be_focused()
    assert open_figure(page, figure).locator(SHOWN).all_inner_texts() == shown
    assert started.troubles == []


@chromium_only
@every_figure
@light_and_dark
def test_axe_finds_nothing_before_and_in_use(visit, name, figure, color_scheme, width):
    page = visit(width=width, color_scheme=color_scheme).open(name)

    def check():
        results = Axe().run(page, context=f"#{figure}")
        found = [
            f"{violation['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for violation in results.response["violations"]
            for node in violation["nodes"]
        ]
        assert found == []

    check()
    container = open_figure(page, figure)
    check()
    container.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    for cell in container.locator("[data-map] button").all()[:3]:
        cell.click()
    for box in container.locator("input[type=checkbox]").all():
        box.click()
    field_name, (wrong, *_), _ = INPUTS[kind_of(container)]
    type_in(container, **{field_name: wrong})
    check()


@pytest.mark.parametrize("name", PAGES)
def test_open_figures_are_never_wider_than_a_phone(visit, name):
    page = visit(width=360).open(name)
    for figure in FIGURES[name.removesuffix(".html")]:
        container = open_figure(page, figure)
        container.locator("details").evaluate_all(
            "all => all.forEach(d => d.open = true)"
        )
    too_wide = """frames => frames.filter(frame => frame.scrollWidth > frame.clientWidth)
      .map(frame => `${frame.className}: ${frame.scrollWidth} of ${frame.clientWidth}`)"""
    frames = page.locator("html, body, .page, .main, .content, .live, .live-panel")
    assert frames.evaluate_all(too_wide) == []


@every_figure
def test_two_on_one_page_do_not_disturb_each_other(visit, name, figure):
    started = visit()
    page = started.open(name)
    find(page, figure).evaluate("one => one.after(one.cloneNode(true))")
    both = find(page, figure)
    first, second = both.nth(0), both.nth(1)
    for container in (first, second):
        container.locator("[data-open]").click()
        container.locator(".live-panel").wait_for()
    ids = both.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))

    field_name, _, right = INPUTS[kind_of(first)]
    states = "all => all.map(e => [e.checked, e.value, e.ariaPressed, e.textContent])"
    content = second.locator("*")
    before = content.evaluate_all(states)
    shown = first.locator(SHOWN).all_inner_texts()
    type_in(first, **{field_name: right})
    for cell in first.locator("[data-map] button").all()[:1]:
        cell.click()
    for choice in first.locator("input[type=radio]").all():
        choice.check()
    assert first.locator(SHOWN).all_inner_texts() != shown
    assert content.evaluate_all(states) == before
    assert started.troubles == []


@pytest.mark.parametrize(("name", "figure"), [COPYING, ADDING])
def test_each_map_is_one_stop_of_the_keyboard_and_arrows_move_inside(
    visit, name, figure
):
    page = visit().open(name)
    container = open_figure(page, figure)
    for one in container.locator("[data-map]").all():
        assert one.locator("button[tabindex='0']").count() == 1
        assert one.locator("button:not([tabindex])").count() == 0
    grid = container.locator("[data-map]").nth(1)
    grid.locator("button[tabindex='0']").focus()
    for key, place in [
        ("ArrowRight", (0, 1)),
        ("ArrowDown", (1, 1)),
        ("ArrowLeft", (1, 0)),
        ("ArrowLeft", (1, 0)),
        ("ArrowUp", (0, 0)),
        ("ArrowUp", (0, 0)),
        ("End", (0, 4 if name == ADDING[0] else 5)),
        ("Home", (0, 0)),
    ]:
        page.keyboard.press(key)
        focused = grid.locator("button:focus")
        assert focused.get_attribute("data-row") == str(place[0])
        assert focused.get_attribute("data-column") == str(place[1])
    assert focused.get_attribute("aria-label")
    for pressed in ("true", "false"):
        page.keyboard.press("Enter")
        expect(grid.locator("button:focus")).to_have_attribute("aria-pressed", pressed)


# Chapter 9's model in its widget


@functools.cache
def load(model_name):
    return stored.load(model_name)


def plain(rows):
    """Rows of tokens without what stands behind END."""
    return [[token for token in row if token != PAD] for row in rows.tolist()]


def write(model_name, src, max_len=5, cells=None):
    """What the package decodes, with `(head, query, key)` hidden by module name."""
    model = load(model_name)
    with edit_attention(model, hiding(model, cells or {})):
        return plain(decode_uncached(model, src, max_len, START, END))


def hiding(model, cells):
    """Edits that hide `cells`, `(head, query, key)` by module name."""

    def hide(hidden, query, key, value, mask):
        return query, key, value, mask & ~hidden[:, : query.size(1), : key.size(1)]

    edits = {}
    for module, triples in cells.items():
        length = model.max_len
        hidden = torch.zeros(model.config.num_heads, length, length, dtype=torch.bool)
        hidden[tuple(torch.tensor(triples).T)] = True
        edits[module] = functools.partial(hide, hidden)
    return edits


def source_of(a, b):
    return AdditionTask(num_digits=2).make_batch(torch.tensor([[a, b]])).src


def digits(tokens):
    return "".join("PSE+0123456789"[token] for token in tokens[1:] if token != END)


@pytest.fixture
def adder(visit):
    name, figure = ADDING
    return open_figure(visit().open(name), figure)


def move_to(adder, moment):
    slider = adder.locator("input[name=moment]")
    slider.press("Home")
    for _ in range(stored.MOMENTS.index(moment)):
        slider.press("ArrowRight")
    assert slider.input_value() == str(stored.MOMENTS.index(moment))


@pytest.mark.parametrize(("name", "figure"), [ADDING, PLACES[0]])
def test_a_sum_is_asked_with_enter_and_answered_in_three_digits(visit, name, figure):
    container = open_figure(visit().open(name), figure)
    answer = container.locator("[data-answer]")
    for a, b, sum_ in [("12", "49", "061"), ("57", "26", "083"), ("7", "85", "092")]:
        type_in(container, a=a, b=b)
        expect(answer).to_have_text(sum_)


@pytest.mark.parametrize("moment", stored.MOMENTS)
def test_the_slider_asks_the_model_of_that_moment(adder, moment):
    move_to(adder, moment)
    for a, b in TELLING:
        type_in(adder, a=str(a), b=str(b))
        [written] = write(f"sum-{moment}", source_of(a, b))
        expect(adder.locator("[data-answer]")).to_have_text(digits(written))


def test_weights_that_come_late_leave_what_is_being_typed(adder):
    held = []
    adder.page.route("**/weights/sum-200.js*", lambda route: held.append(route))
    with adder.page.expect_request("**/weights/sum-200.js*"):
        move_to(adder, 200)
    field = adder.locator("[name=a]")
    field.fill("38")
    held.pop().continue_()
    [written] = write("sum-200", source_of(57, 26))
    expect(adder.locator("[data-answer]")).to_have_text(digits(written))
    expect(field).to_have_value("38")
    type_in(adder, b="78")
    [written] = write("sum-200", source_of(38, 78))
    expect(adder.locator("[data-answer]")).to_have_text(digits(written))


def test_a_moment_that_could_not_be_loaded_says_so_and_can_be_tried_again(adder):
    page = adder.page
    page.route("**/weights/sum-100.js*", lambda route: route.abort())
    move_to(adder, 100)
    failed = adder.get_by_role("status").filter(has_text=TEXTS["open"]["failed"])
    expect(failed).to_be_visible()
    expect(adder.locator("[data-answer]")).to_have_text("")
    adder.locator("[data-map] button").first.click()
    expect(adder.locator("[data-answer]")).to_have_text("")
    adder.get_by_role("button", name=TEXTS["sum"]["undo"]).click()
    adder.get_by_role("button", name=TEXTS["sum"]["all"]).click()
    expect(failed).to_have_count(2)
    page.unroute_all()
    move_to(adder, 1800)
    expect(adder.locator("[data-answer]")).to_have_text("083")
    move_to(adder, 100)
    [written] = write("sum-100", source_of(57, 26))
    expect(adder.locator("[data-answer]")).to_have_text(digits(written))


def test_the_moments_answer_differently_until_all_sums_are_right():
    for a, b in TELLING:
        answers = [digits(write(name, source_of(a, b))[0]) for name in SUMS]
        assert answers[-2:] == [f"{a + b:03}"] * 2
        assert len(set(answers)) == len(answers) - 1


def pressed(container):
    """What is hidden in the page: `(head, query, key)` by module name."""
    modules = {
        "cross": "decoder.layers.{}.cross_attention",
        "encoder": "encoder.layers.{}.self_attention",
        "decoder": "decoder.layers.{}.self_attention",
    }
    found = container.locator("[data-map] [aria-pressed=true]").evaluate_all(
        """cells => cells.map(cell => {
          const {map, layer, head} = cell.closest("[data-map]").dataset;
          return [map, layer, ...[head, cell.dataset.row, cell.dataset.column].map(Number)];
        })"""
    )
    cells = {}
    for kind, layer, *place in found:
        cells.setdefault(modules[kind].format(layer), []).append(place)
    return cells


def test_a_cell_that_is_pressed_is_hidden_from_the_model(adder):
    type_in(adder, a="57", b="26")
    answer = adder.locator("[data-answer]")
    expect(answer).to_have_text("083")
    places = [f"[data-row='1'][data-column='{column}']" for column in (1, 4)]
    for place in places:
        for cell in adder.locator(f"[data-map=cross] {place}").all():
            if cell.get_attribute("aria-pressed") == "false":
                cell.click()
            expect(cell).to_have_attribute("aria-pressed", "true")
            [written] = write("sum-1800", source_of(57, 26), cells=pressed(adder))
            expect(answer).to_have_text(digits(written))
    assert len(pressed(adder)) == 2
    # The tens do not see the units any more, and so not whether there is a carry.
    expect(answer).not_to_have_text("083")
    adder.get_by_role("button", name=TEXTS["sum"]["undo"]).click()
    expect(answer).to_have_text("083")
    assert pressed(adder) == {}


def test_what_a_cell_says_follows_what_is_hidden(adder):
    type_in(adder, a="57", b="26")
    cell = adder.locator("[data-map=cross] [data-row='1'][data-column='0']").first
    for _ in range(3):
        cell.click()
        said = f"layer 0, head 0: {cell.get_attribute('aria-label')}"
        expect(adder.get_by_text(said, exact=True)).to_be_visible()
    adder.locator("input[value=encoder]").check()
    expect(adder.get_by_text(TEXTS["sum"]["look"])).to_be_visible()


def test_a_row_or_all_cells_are_hidden_at_once(adder):
    type_in(adder, a="57", b="26")
    cross = [f"decoder.layers.{layer}.cross_attention" for layer in range(2)]
    for scope, rows in [("row", [1]), ("map", range(4))]:
        adder.get_by_label(TEXTS["sum"]["choose"]).select_option(scope)
        adder.locator("[data-map=cross] [data-row='1'][data-column='2']").first.click()
        places = [list(p) for p in itertools.product(range(4), rows, range(5))]
        assert pressed(adder) == dict.fromkeys(cross, places)
        [written] = write("sum-1800", source_of(57, 26), cells=pressed(adder))
        expect(adder.locator("[data-answer]")).to_have_text(digits(written))


def test_tokens_are_written_one_at_a_time_and_by_the_reader(adder):
    type_in(adder, a="57", b="26")
    answer = adder.locator("[data-answer]")
    step = adder.get_by_role("button", name=TEXTS["sum"]["step"])
    step.click()
    expect(answer).to_have_text("")
    for so_far in ("0", "08", "083"):
        adder.get_by_role("button", name=TEXTS["sum"]["next"]).click()
        expect(answer).to_have_text(so_far)
    adder.get_by_role("button", name=TEXTS["sum"]["next"]).click()
    expect(step).to_be_visible()
    instead = TEXTS["sum"]["instead"].format(place="the hundreds")
    adder.get_by_label(instead).select_option(label="1")
    src, forced = source_of(57, 26), torch.tensor([[START, 5]])
    model = load("sum-1800")
    while forced[0, -1] != END and forced.size(1) < 5:
        logits = model(src, forced)[:, -1]
        logits[:, PAD] = -torch.inf
        forced = torch.cat([forced, logits.argmax(dim=-1, keepdim=True)], dim=1)
    expect(answer).to_have_text(digits(forced[0].tolist()))
    adder.get_by_role("button", name=TEXTS["sum"]["undo"]).click()
    expect(answer).to_have_text("083")


def test_units_are_taken_from_another_sum(adder):
    type_in(adder, a="57", b="26")
    adder.get_by_text(TEXTS["sum"]["transplant"]).click()
    for place in (1, 4):
        adder.locator(f"[name=place{place}]").check()
    adder.locator("[name=c]").fill("52")
    adder.locator("[name=d]").fill("21")
    expect(adder.locator("[data-answer]")).to_have_text("073")
    adder.locator("[name=d]").fill("210")
    expect(adder.locator("[name=d]")).to_have_attribute("aria-invalid", "true")
    adder.get_by_role("button", name=TEXTS["sum"]["undo"]).click()
    expect(adder.locator("[data-answer]")).to_have_text("083")
    expect(adder.locator("[name=place1]")).not_to_be_checked()


def test_the_keyboard_keeps_its_place_where_the_answer_ends_early(adder):
    move_to(adder, 100)
    type_in(adder, a="57", b="26")
    adder.locator("input[value=decoder]").check()
    for cell in adder.locator("[data-row='0'][data-column='0']").all():
        if cell.get_attribute("aria-pressed") == "false":
            cell.focus()
            adder.page.keyboard.press("Enter")
            expect(cell).to_have_attribute("aria-pressed", "true")
            assert adder.locator("[data-map] button:focus").count() == 1
    [written] = write("sum-100", source_of(57, 26), cells=pressed(adder))
    assert len(written) < 5
    expect(adder.locator("[data-answer]")).to_have_text(digits(written))


@pytest.mark.parametrize("moment", [200, 800, 1800])
def test_all_sums_are_counted_while_the_page_stays_usable(adder, moment):
    move_to(adder, moment)
    ask = adder.get_by_role("button", name=TEXTS["sum"]["all"])
    ask.click()
    expect(ask).to_be_hidden()
    while not ask.is_visible():
        began = time.monotonic()
        assert adder.page.evaluate("1 + 1") == 2
        assert time.monotonic() - began < 1
        adder.page.wait_for_timeout(200)
    right = read_results("live")["right"][f"sum-{moment}"]
    assert adder.locator("[data-right]").inner_text() == str(right)
    assert (
        f"{right:,} – {moment:,} steps" in adder.get_by_role("list").all_inner_texts()
    )
    map_of_sums = adder.get_by_role("application")
    map_of_sums.focus()
    adder.page.keyboard.press("ArrowRight")
    adder.page.keyboard.press("Enter")
    expect(adder.locator("[name=b]")).to_have_value("27")


# Chapter 7's copier in its widget


def test_what_is_kept_and_drawn_is_what_the_package_keeps(visit):
    name, figure = DECODING
    container = open_figure(visit().open(name), figure)
    words = TEXTS["decode"]
    with torch.no_grad():
        src = torch.tensor([[5, 9, 12, 7, 3, 10, 4, 8]])
        logits = load("unsure")(src, torch.tensor([[START]]))[:, -1]
    logits[:, PAD] = -torch.inf
    shares = logits.softmax(dim=-1)[0]
    for top_p, presses in [(0.8, 4), (0.9, 2), (0.95, 1)]:
        slider = container.locator("[name=top_p]")
        slider.press("End")
        for _ in range(presses):
            slider.press("ArrowLeft")
        kept = Sampler(top_p=top_p).probabilities(logits)[0] > 0
        said = words["kept"].format(
            count=int(kept.sum()), total=14, share=f"{100 * shares[kept].sum():.1f} %"
        )
        expect(container.get_by_text(said)).to_be_visible()
    slider.press("Home")
    container.get_by_role("button", name=words["drawRest"]).click()
    rows = container.locator("tbody tr").all_inner_texts()
    greedy, beams = (
        load("unsure").greedy_decode(src, 10, START, END),
        load("unsure").beam_search(src, 10, START, END, 4),
    )
    for row, tokens in [(rows[0], greedy), (rows[1], beams.tokens), (rows[2], greedy)]:
        names = [{END: "END"}.get(t, str(t)) for t in tokens[0, 1:].tolist()]
        assert " ".join(names) in row
    score = f"{beams.scores.item():.3f}".replace("-", "\N{MINUS SIGN}")
    assert score in rows[1]


# Chapter 5's masks in their widget


@pytest.mark.parametrize(
    "rows", [[[5, 6, 7, 8], [9], [10, 11]], [[3], [14, 14, 3, 14, 14, 4]]]
)
def test_batch_and_masks_are_those_of_the_package(visit, rows):
    name, figure = MASKING
    container = open_figure(visit().open(name), figure)
    texts = [" ".join(map(str, row)) for row in rows]
    type_in(container, **{f"row{at}": text for at, text in enumerate(texts, start=1)})
    if len(rows) == 2:
        type_in(container, row3="")
    batch = make_batch(rows, rows)
    names = {PAD: "PAD", START: "START", END: "END"}
    read = """([shift, mask]) => [shift, mask].map(table => [...table.rows]
      .map(row => [...row.cells].slice(1).map(c => c.dataset.state ?? c.innerText)))"""
    masks = list(itertools.product([True, False], repeat=2))
    for row, (causal, padding) in itertools.product(range(len(rows)), masks):
        container.locator("fieldset.live-choice input").nth(row).check()
        container.locator("[name=causal]").set_checked(causal)
        container.locator("[name=padding]").set_checked(padding)
        (_, tgt_in, tgt_out), (keys, *states) = container.locator("table").evaluate_all(
            read
        )
        for shown, tokens in [(tgt_in, batch.tgt_in), (tgt_out, batch.tgt_out)]:
            assert shown == [names.get(t, str(t)) for t in tokens[row].tolist()]
        assert keys == tgt_in
        length = batch.tgt_in.size(1)
        is_pad = ~padding_mask(batch.tgt_in)[row, 0].expand(length, -1) & padding
        is_future = ~causal_mask(length) & causal
        assert states == [
            [
                "pad"
                if is_pad[query, key]
                else "future"
                if is_future[query, key]
                else "may"
                for key in range(length)
            ]
            for query in range(length)
        ]


def test_a_position_says_what_it_reads_sees_and_must_predict(visit):
    name, figure = MASKING
    page = visit().open(name)
    container = open_figure(page, figure)
    status = container.get_by_role("status")
    container.locator("table input").nth(1).check()
    said = "Position 1 reads 5, sees START and 5, and must predict 6."
    expect(status.filter(has_text=said)).to_be_visible()
    page.keyboard.press("ArrowRight")
    said = "Position 2 reads 6, sees START, 5 and 6, and must predict 7."
    expect(status.filter(has_text=said)).to_be_visible()
    container.locator("[name=causal]").uncheck()
    said = "sees START, 5, 6, 7 and 8, and must predict 7, which it sees."
    expect(status.filter(has_text=said)).to_be_visible()
    expect(status.filter(has_text="positions 0 to 3 see the token")).to_be_visible()


# The forward pass in JavaScript, and the package's


@pytest.fixture
def library(visit):
    """A page in which everything that widgets share is loaded."""
    page = visit().open(ADDING[0])
    loading = "['texts', 'transformer', 'parts'].map(Live.load)"
    page.evaluate(f"Promise.all({loading}).then(() => null)")
    return page


def call(library, body, **values):
    """Run `body` in the page; `model` is the model called `model_name`, if one is."""
    names = ", ".join(values)
    load_model = (
        "const model = await Live.parts.model(model_name);"
        if "model_name" in values
        else ""
    )
    return library.evaluate(
        f"""async ({{{names}}}) => {{
          const parts = Live.parts;
          const editsOf = cells => Object.fromEntries(Object.entries(cells)
            .map(([module, triples]) => {{
              const hidden = new Set(triples.map(String));
              return [module, (...place) => hidden.has(String(place))];
            }}));
          {load_model}
          {body}
        }}""",
        values,
    )


def sample(model_name, count, seed=1):
    """Some of the task's batch; rows of the copying task differ in length."""
    generator = torch.Generator().manual_seed(seed)
    if model_name in stored.COPIERS:
        return CopyTask(vocab_size=15, min_length=3, max_length=8).sample(
            count, generator
        )
    pairs = torch.randint(100, (count, 2), generator=generator)
    return AdditionTask(num_digits=2).make_batch(pairs)


FORWARD = """const edits = editsOf(cells);
  return src.map((row, at) => {
    const maps = {};
    return {logits: model.forward(row, tgtIn[at], edits, maps).map(v => [...v]), maps};
  });"""


def compare_passes(library, model_name, batch, cells):
    """Logits and maps of one pass in the page, and in the package."""
    model = load(model_name)
    with (
        torch.no_grad(),
        edit_attention(model, hiding(model, cells)),
        record_attention(model) as maps,
    ):
        logits = model(batch.src, batch.tgt_in)
    rows = call(
        library,
        FORWARD,
        model_name=model_name,
        src=batch.src.tolist(),
        tgtIn=batch.tgt_in.tolist(),
        cells=cells,
    )
    assert len(maps) == 6
    for at, row in enumerate(rows):
        close(row["logits"], logits[at], 1e-4)
        assert set(row["maps"]) == set(maps)
        for module, weights in maps.items():
            close(row["maps"][module], weights[at], 1e-5)


def close(numbers, expected, tolerance):
    torch.testing.assert_close(
        torch.tensor(numbers, dtype=torch.float64),
        expected.double(),
        atol=tolerance,
        rtol=0,
    )


@every_model
def test_logits_and_maps_are_those_of_the_package(library, model_name):
    compare_passes(library, model_name, sample(model_name, 20), {})


@every_model
def test_logits_and_maps_with_hidden_cells_are_those_of_the_package(
    library, model_name
):
    batch = sample(model_name, 5)
    lengths = {"src": batch.src.size(1), "tgt": batch.tgt_in.size(1)}
    generator = torch.Generator().manual_seed(2)
    cells = {}
    for layer, (stack, part, query, key) in itertools.product(
        range(2),
        [
            ("encoder", "self", "src", "src"),
            ("decoder", "self", "tgt", "tgt"),
            ("decoder", "cross", "tgt", "src"),
        ],
    ):
        hidden = torch.rand(4, lengths[query], lengths[key], generator=generator) < 0.3
        hidden[layer, 1] = True  # A query that may look at nothing.
        cells[f"{stack}.layers.{layer}.{part}_attention"] = hidden.nonzero().tolist()
    compare_passes(library, model_name, batch, cells)
    rows = [batch.src[at : at + 1] for at in range(len(batch.src))]
    written = call(
        library,
        "return src.map(row => model.greedyDecode(row, 5, editsOf(cells)));",
        model_name=model_name,
        src=batch.src.tolist(),
        cells=cells,
    )
    assert written == [write(model_name, row, cells=cells)[0] for row in rows]


GREEDY = "return src.map(row => model.greedyDecode(row, maxLength));"


@every_model
def test_greedy_answers_are_those_of_the_package(library, model_name):
    max_len = 10 if model_name in stored.COPIERS else 5
    src = sample(model_name, 20).src
    expected = load(model_name).greedy_decode(src, max_len, START, END)
    written = call(
        library, GREEDY, model_name=model_name, src=src.tolist(), maxLength=max_len
    )
    assert written == plain(expected)


@pytest.mark.skipif("LONG" not in os.environ, reason="minutes: LONG=1")
@pytest.mark.parametrize("model_name", SUMS)
def test_every_sum_is_answered_as_by_the_package(library, model_name):
    task = AdditionTask(num_digits=2)
    for pairs in task.all_pairs().split(1_000):
        src = task.make_batch(pairs).src
        expected = load(model_name).greedy_decode(src, 5, START, END)
        written = call(
            library, GREEDY, model_name=model_name, src=src.tolist(), maxLength=5
        )
        assert written == plain(expected)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 1, 3])
@pytest.mark.parametrize("top_p", [None, 0.05, 0.7, 0.8, 0.9, 1.0])
def test_chances_to_draw_from_are_those_of_the_package(
    library, temperature, top_k, top_p
):
    # By rounding, 0.4 + 0.3 falls short of 0.7. Then two that are equally likely, twice.
    edges = torch.tensor(
        [[0.4, 0.3, 0.25, 0.05], [0.5, 0.3, 0.15, 0.05], [0.4, 0.4, 0.1, 0.1]],
        dtype=torch.float64,
    )
    edges = edges.log().float()
    generator = torch.Generator().manual_seed(3)
    random = 3 * torch.randn(20, 14, generator=generator)
    with torch.no_grad():
        batch = sample("unsure", 5)
        of_model = load("unsure")(batch.src, batch.tgt_in)[:, 1]
    for logits in (edges, random, of_model):
        shares = call(
            library,
            """return logits.map(row =>
              parts.probabilities(row, {temperature, topK, topP}));""",
            logits=logits.tolist(),
            temperature=temperature,
            topK=top_k,
            topP=top_p,
        )
        expected = Sampler(temperature, top_k, top_p).probabilities(logits)
        close(shares, expected, 1e-6)


def test_a_token_is_drawn_by_its_share(library):
    drawn = call(
        library,
        "return numbers.map(number => parts.draw([0.2, 0, 0.5, 0.3], number));",
        numbers=[0, 0.1999, 0.2001, 0.6999, 0.7001, 0.9999],
    )
    assert drawn == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize("model_name", stored.COPIERS)
@pytest.mark.parametrize("beam_size", [1, 2, 4])
def test_beams_find_what_the_package_finds(library, model_name, beam_size):
    src = sample(model_name, 20).src
    expected = load(model_name).beam_search(src, 10, START, END, beam_size)
    found = call(
        library,
        "return src.map(row => parts.beamSearch(model, row, 10, beamSize));",
        model_name=model_name,
        src=src.tolist(),
        beamSize=beam_size,
    )
    assert [one["tokens"] for one in found] == plain(expected.tokens)
    close([one["score"] for one in found], expected.scores, 1e-4)


def test_a_transplanted_memory_is_read_as_in_chapter_9(library):
    model_name, places = "sum-1800", [1, 4]
    src = sample(model_name, 20).src
    donors = src.roll(-1, dims=0)
    model = load(model_name)

    def edit(query, memory, _memory, mask):
        mixed = memory.clone()
        with torch.no_grad():
            mixed[:, places] = model.encode(donors)[:, places]
        return query, mixed, mixed, mask

    cross = [f"decoder.layers.{layer}.cross_attention" for layer in range(2)]
    with edit_attention(model, dict.fromkeys(cross, edit)):
        expected = plain(decode_uncached(model, src, 5, START, END))
    written = call(
        library,
        """return src.map((row, at) => {
          const own = model.encode(row), other = model.encode(donors[at]);
          const mixed = own.map((vector, k) => places.includes(k) ? other[k] : vector);
          return model.write(mixed, row, 5);
        });""",
        model_name=model_name,
        src=src.tolist(),
        donors=donors.tolist(),
        places=places,
    )
    assert written == expected
    assert written != plain(model.greedy_decode(src, 5, START, END))
