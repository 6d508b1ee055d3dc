"""What a reader meets: every page, in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHAPTERS, HTML, PAGES

every_page = pytest.mark.parametrize("name", PAGES)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)


@every_page
def test_a_page_opens_without_trouble_and_asks_no_other_host(visit, name):
    started = visit()
    page = started.open(name)
    started.scroll_through()
    assert started.troubles == []
    host = started.origin.rsplit("/", 2)[0]
    assert [
        url for url in started.requested if not url.startswith((host, "data:"))
    ] == []
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    broken = "images => images.filter(i => i.naturalWidth === 0).map(i => i.src)"
    assert page.locator("img").evaluate_all(broken) == []


@every_page
@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_a_page_is_never_wider_than_the_window(visit, name, width):
    page = visit(width=width).open(name)
    # The theme hides what is wider than the window, and lets the column of text scroll.
    too_wide = """frames => frames.filter(frame => frame.scrollWidth > frame.clientWidth)
      .map(frame => `${frame.className}: ${frame.scrollWidth} of ${frame.clientWidth}`)"""
    assert (
        page.locator("html, body, .page, .main, .content").evaluate_all(too_wide) == []
    )


@every_page
@pytest.mark.parametrize(("color_scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing(visit, name, color_scheme, width):
    started = visit(width=width, color_scheme=color_scheme)
    results = Axe().run(started.open(name))
    found = [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]
    assert found == []


@every_chapter
def test_nothing_jumps_while_a_chapter_loads_and_is_read(visit, name):
    started = visit(width=412, height=823)
    started.page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver(list => {
          for (const entry of list.getEntries()) window.shift += entry.value;
        }).observe({type: "layout-shift", buffered: true});"""
    )
    page = started.open(name)
    started.scroll_through()
    assert page.evaluate("window.shift") < 0.05


@every_chapter
def test_images_say_what_they_show_reserve_their_room_and_load_late(visit, name):
    page = visit().open(name)
    lacking = """images => images.filter(image =>
      !image.alt || !image.getAttribute("width") || !image.getAttribute("height")
      || image.loading !== "lazy").map(image => image.outerHTML)"""
    assert page.locator("article img").evaluate_all(lacking) == []


def is_with_formulas(name):
    return "<math" in (HTML / name).read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in PAGES if is_with_formulas(name)])
@pytest.mark.parametrize("offline", [False, True])
def test_formulas_are_laid_out_in_the_font_of_the_book(visit, from_disk, name, offline):
    if offline:
        started = from_disk(name)
        page = started.page
    else:
        started = visit()
        page = started.open(name)
    page.evaluate("document.fonts.ready")
    assert started.troubles == []
    assert page.evaluate("document.fonts.check('16px \"STIX Two Math\"')")
    sizes = page.locator("math").evaluate_all(
        "formulas => formulas.map(f => f.getBoundingClientRect().width)"
    )
    assert min(sizes) > 0
    assert page.locator("article").inner_text().count("\\frac") == 0


def test_a_fraction_is_set_one_above_the_other(visit):
    page = visit().open("book/02_architecture.html")
    above, below = (
        page.locator("math mfrac > *").nth(k).bounding_box() for k in (0, 1)
    )
    assert above["y"] + above["height"] <= below["y"] + 1


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_follow_the_reader_s_scheme_and_so_do_figures(visit, name, scheme):
    page = visit(color_scheme=scheme).open(name)
    background = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (sum(background[:3]) < 200) == (scheme == "dark")
    filters = page.locator(".cell_output img, figure img").evaluate_all(
        "images => images.map(image => getComputedStyle(image).filter)"
    )
    assert all((value != "none") == (scheme == "dark") for value in filters)


def test_the_reader_can_choose_the_scheme(visit):
    page = visit(color_scheme="light").open("book/02_architecture.html")
    toggle = page.locator(".theme-toggle-content button")
    seen = set()
    for _ in range(3):
        toggle.click()
        seen.add(page.locator("body").get_attribute("data-theme"))
    assert seen == {"light", "dark", "auto"}


def test_search_finds_a_word_of_chapter_7_from_chapter_1(visit):
    started = visit()
    page = started.open("book/01_setup.html")
    page.get_by_role("searchbox").or_(page.locator("input[name=q]")).first.fill("top-p")
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li")
    found = page.locator("ul.search li a").evaluate_all(
        "links => links.map(l => l.href)"
    )
    assert any("book/07_inference.html" in link for link in found)
    assert started.troubles == []


def test_search_works_from_disk_too(from_disk):
    page = from_disk("book/01_setup.html").page
    page.locator("input[name=q]").first.fill("temperature")
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li")
    found = page.locator("ul.search li a").evaluate_all(
        "links => links.map(l => l.href)"
    )
    assert any("book/07_inference.html" in link for link in found)


def test_a_wrong_address_gets_a_page_with_its_style_and_its_links(visit):
    started = visit()
    page = started.open("no/such/page.html")
    assert page.locator("h1").inner_text() == "Page not found"
    assert len(started.troubles) == 2  # the address itself: status, and console
    page.get_by_role("link", name="1. Setting up").click()
    assert page.locator("h1").inner_text().startswith("1. Setting up")


def test_the_keyboard_alone_reaches_everything_and_one_sees_where_it_is(visit):
    page = visit().open("book/02_architecture.html")
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    assert "Skip to content" in page.evaluate(f"{focused}.innerText")
    visible = """element => {
      const style = getComputedStyle(element);
      return style.outlineStyle !== "none" || style.boxShadow !== "none"
        || element.classList.contains("skip-to-content");
    }"""
    reached = set()
    for _ in range(400):
        element = page.evaluate_handle(focused)
        assert element.evaluate(visible), element.evaluate("e => e.outerHTML")
        reached.add(element.evaluate("e => e.className + ' ' + e.innerText"))
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused} === document.body"):
            break
    text = "\n".join(reached)
    for wanted in ("Binder", "Colab", "Download notebook", "theme-toggle", "copybtn"):
        assert wanted in text
    assert "3. Building a model" in text


def test_code_can_be_copied(visit):
    started = visit(permissions=["clipboard-read", "clipboard-write"])
    page = started.open("book/03_building.html")
    # The first cell, the imports, is folded.
    page.locator("div.cell_input div.highlight:visible").first.hover()
    page.locator("button.copybtn:visible").first.click()
    code = page.locator("div.cell_input pre:visible").first.inner_text()
    assert page.evaluate("navigator.clipboard.readText()").strip() == code.strip()


def test_on_paper_there_is_the_chapter_and_nothing_to_click(visit):
    page = visit().open("book/02_architecture.html")
    page.emulate_media(media="print")
    for gone in (".sidebar-drawer", ".toc-drawer", ".launch", "button.copybtn"):
        assert not page.locator(gone).first.is_visible()
    assert page.locator(".solution pre").first.is_visible()


def test_solutions_are_folded_up_until_they_are_asked_for(visit):
    page = visit().open("book/02_architecture.html")
    solution = page.locator(".solution").first
    code = solution.locator("pre").first
    assert not code.is_visible()
    solution.get_by_role("button").first.click()
    assert code.is_visible()
