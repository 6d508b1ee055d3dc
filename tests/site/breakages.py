"""Broken sites, each of which a browser test must notice: `python -m tests.site.breakages`.

One file of a copy of the built site is broken, and the one test that is named with it runs
there. A broken site that this test lets pass is a hole in the tests.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "_build/html",
    "_config.yml",
    "benchmarks",
    "book",
    "pyproject.toml",
    "tests",
    "transformer",
)
SETUP = "book/01_setup.html"
CHAPTER = "book/02_architecture.html"


class Breakage(NamedTuple):
    """In `file` of the site, the first match of `pattern` becomes `replacement`."""

    bug: str
    file: str
    pattern: str
    replacement: str
    test: str
    """What must notice it, as pytest names it, within `tests/site/`."""


OPENS = "test_pages.py::test_a_page_opens_without_trouble_and_asks_no_other_host"
LINKS = "test_files.py::test_every_link_leads_to_a_file_and_every_anchor_to_its_place"
LAUNCHES = "test_files.py::test_launch_links_lead_to_the_notebook_of_the_page"
DESCRIBES = "test_files.py::test_a_page_describes_itself"
AXE = "test_pages.py::test_axe_finds_nothing"
WIDTH = "test_pages.py::test_a_page_is_never_wider_than_the_window"
FORMULAS = "test_pages.py::test_formulas_are_laid_out_in_the_font_of_the_book"
SCHEME = "test_pages.py::test_pages_follow_the_reader_s_scheme_and_so_do_figures"
SEARCH = "test_pages.py::test_search_finds_a_word_of_chapter_7_from_chapter_1"
IMAGES = (
    "test_pages.py::test_images_say_what_they_show_reserve_their_room_and_load_late"
)
WEIGHT = (
    "test_files.py::"
    "test_a_chapter_weighs_at_most_250_kilobytes_and_600_with_its_figures"
)
OTHER_HOST = '</article><img src="https://example.org/x.png" alt="">'
ADDING = "book/09_addition.html"
FIGURE = "book/09_addition.html-fig-addition-cross"
LIVE_OPENS = f"test_live.py::test_a_figure_opens_without_trouble[mouse-False-{FIGURE}]"
PASSES = "test_live.py::test_logits_and_maps_are_those_of_the_package"
HIDDEN_PASSES = (
    "test_live.py::test_logits_and_maps_with_hidden_cells_are_those_of_the_package"
)
OTHER_WEIGHTS = base64.b64encode(
    (ROOT / "book/live/sum-300.safetensors").read_bytes()
).decode()

BREAKAGES = [
    # Opening
    Breakage(
        "a script that raises",
        CHAPTER,
        "</body>",
        "<script>throw new Error()</script></body>",
        f"{OPENS}[{CHAPTER}]",
    ),
    Breakage(
        "a script that is not there",
        CHAPTER,
        "</body>",
        '<script src="lost.js"></script></body>',
        f"{OPENS}[{CHAPTER}]",
    ),
    Breakage(
        "an image from another host",
        CHAPTER,
        "</article>",
        OTHER_HOST,
        f"{OPENS}[{CHAPTER}]",
    ),
    Breakage("a figure that is empty", "_images/cache.svg", ".*", "", OPENS),
    # Formulas
    Breakage(
        "a formula that has stayed TeX",
        CHAPTER,
        "<math.*?</math>",
        r"\\frac{1}{2}",
        FORMULAS,
    ),
    Breakage("no font for formulas", "_static/stix-two-math.woff2", ".*", "", FORMULAS),
    Breakage(
        "fractions without MathML's layout",
        CHAPTER,
        "</head>",
        "<style>mfrac, mfrac > * { display: inline-block; }</style></head>",
        "test_pages.py::test_a_fraction_is_set_one_above_the_other",
    ),
    # Colours
    Breakage(
        "figures that stay white in the dark",
        "_static/book.css",
        r"filter: invert\(0.92\) hue-rotate\(180deg\);\s*\}\s*\}",
        "} }",
        SCHEME,
    ),
    Breakage(
        "no dark mode",
        "_static/styles/furo.css",
        "prefers-color-scheme: ?dark",
        "prefers-color-scheme:sepia",
        SCHEME,
    ),
    Breakage(
        "a switch for the scheme that does nothing",
        "_static/scripts/furo.js",
        ".*",
        "",
        "test_pages.py::test_the_reader_can_choose_the_scheme",
    ),
    # Widths, and room kept for figures
    Breakage(
        "a table wider than a phone",
        CHAPTER,
        "</article>",
        '<div style="width: 400px">wide</div></article>',
        WIDTH,
    ),
    Breakage("a figure without its height", CHAPTER, r' height="\d+"', "", IMAGES),
    Breakage(
        "text that is moved down by what comes late",
        CHAPTER,
        "</body>",
        "<script>setTimeout(() => document.querySelector('h1').style.marginTop = '400px',"
        " 50)</script></body>",
        "test_pages.py::test_nothing_jumps_while_a_chapter_loads_and_is_read",
    ),
    # Access
    Breakage(
        "a figure without alternative text", CHAPTER, '<img alt=".*?"', "<img", AXE
    ),
    Breakage(
        "pale text",
        CHAPTER,
        "</article>",
        '<p style="background: white; color: #ccc">pale</p></article>',
        AXE,
    ),
    Breakage(
        "a keyboard that nobody sees",
        "_static/book.css",
        "outline: 2px solid[^;]*;",
        "outline: none !important;",
        "test_pages.py::"
        "test_the_keyboard_alone_reaches_everything_and_one_sees_where_it_is",
    ),
    # Search and buttons
    Breakage("an empty search index", "searchindex.js", ".*", "", SEARCH),
    Breakage("a search without its script", "_static/searchtools.js", ".*", "", SEARCH),
    Breakage(
        "a button that copies nothing",
        "_static/clipboard.min.js",
        ".*",
        "",
        "test_pages.py::test_code_can_be_copied",
    ),
    Breakage(
        "solutions that stand open",
        CHAPTER,
        'class="solution dropdown admonition"',
        'class="solution admonition"',
        "test_pages.py::test_solutions_are_folded_up_until_they_are_asked_for",
    ),
    Breakage(
        "buttons on paper",
        "_static/book.css",
        "@media print",
        "@media speech",
        "test_pages.py::test_on_paper_there_is_the_chapter_and_nothing_to_click",
    ),
    # Figures that can be used
    Breakage(
        "a figure without its button",
        ADDING,
        "<button[^>]*data-open.*?</button>",
        "",
        LIVE_OPENS,
    ),
    Breakage(
        "an error that only the console hears",
        "_static/live/parts.js",
        '"use strict";',
        '"use strict"; console.error("broken");',
        LIVE_OPENS,
    ),
    Breakage(
        "a widget that asks another host",
        "_static/live/parts.js",
        '"use strict";',
        '"use strict"; new Image().src = "https://example.org/x.png";',
        LIVE_OPENS,
    ),
    Breakage(
        "weights that are not there",
        "_static/live/weights/sum-1800.js",
        ".*",
        "",
        LIVE_OPENS,
    ),
    Breakage("no texts", "_static/live/texts.js", ".*", "", LIVE_OPENS),
    Breakage(
        "a widget that is loaded before anybody asks",
        "_static/live/live.js",
        "$",
        'Live.load("parts");',
        "test_live.py::test_before_the_reader_asks_only_what_can_open_is_loaded",
    ),
    Breakage(
        "a button that nothing answers",
        "_static/live/live.css",
        r"@media \(scripting: enabled\)",
        "@media all",
        "test_live.py::test_without_scripts_there_is_the_figure_and_no_button",
    ),
    Breakage(
        "a widget on paper",
        "_static/live/live.css",
        "@media print",
        "@media speech",
        "test_live.py::test_on_paper_there_is_the_figure_whether_it_is_open_or_not",
    ),
    Breakage(
        "a failure that nobody hears of",
        "_static/live/live.js",
        r"button\.dataset\.failed",
        '""',
        "test_live.py::"
        "test_a_figure_that_could_not_be_loaded_says_so_and_can_be_tried_again",
    ),
    Breakage(
        "cells of a map without a name",
        "_static/live/parts.js",
        r'button\.setAttribute\("aria-label"[^;]*;',
        "",
        f"test_live.py::test_axe_finds_nothing_before_and_in_use[light-1280-{FIGURE}]",
    ),
    Breakage(
        "numbers of three digits",
        "_static/live/sum.js",
        r"\\d\{1,2\}",
        r"\\d{1,3}",
        f"test_live.py::test_wrong_input_is_answered_but_not_with_an_answer[{FIGURE}]",
    ),
    Breakage(
        "ids that two widgets share",
        "_static/live/parts.js",
        r"\$\{used\+\+\}",
        "0",
        f"test_live.py::test_two_on_one_page_do_not_disturb_each_other[{FIGURE}]",
    ),
    Breakage(
        "scores that are not divided by the root of the width",
        "_static/live/transformer.js",
        r"sum / Math\.sqrt\(width\)",
        "sum",
        f"{PASSES}[sum-1800]",
    ),
    Breakage(
        "PAD in the source that is read",
        "_static/live/transformer.js",
        r"src\[key\] !== PAD",
        "true",
        f"{PASSES}[copy]",
    ),
    Breakage(
        "PAD in the target that is read",
        "_static/live/transformer.js",
        r"tokens\[key\] !== PAD",
        "true",
        f"{PASSES}[copy]",
    ),
    Breakage(
        "a hidden cell that is seen",
        "_static/live/transformer.js",
        r"&& !isHidden\(head, query, key\)",
        "",
        f"{HIDDEN_PASSES}[sum-1800]",
    ),
    Breakage(
        "a pressed cell that is seen",
        "_static/live/parts.js",
        r"this\.has\(module, \.\.\.place\)\]",
        "false]",
        "test_live.py::test_a_cell_that_is_pressed_is_hidden_from_the_model",
    ),
    Breakage(
        "a cell that says what it said before",
        "_static/live/sum.js",
        r"      line\.render\(\);\n      //",
        "      //",
        "test_live.py::test_what_a_cell_says_follows_what_is_hidden",
    ),
    Breakage(
        "numbers that are replaced while they are typed",
        "_static/live/sum.js",
        r"if \(!fields\.isFocused\(\)\) fields",
        "fields",
        "test_live.py::test_weights_that_come_late_leave_what_is_being_typed",
    ),
    Breakage(
        "changes that cannot be undone",
        "_static/live/sum.js",
        r"state\.transplanted\.clear\(\);",
        "",
        "test_live.py::test_units_are_taken_from_another_sum",
    ),
    Breakage(
        "a widget that has too little room",
        "_static/live/live.css",
        r"--wide: 90\.5rem",
        "--wide: 10rem",
        f"test_live.py::test_nothing_moves_when_a_figure_opens[1280-{FIGURE}]",
    ),
    Breakage(
        "a figure that stays away",
        "_static/live/live.js",
        r"part\.hidden = false",
        "part.hidden = true",
        f"test_live.py::test_the_figure_comes_back_and_opens_again[{FIGURE}]",
    ),
    Breakage(
        "one vector too few that is taken from another sum",
        "_static/live/sum.js",
        r"state\.transplanted\.has\(at\) \? other",
        "state.transplanted.has(at + 1) ? other",
        "test_live.py::test_units_are_taken_from_another_sum",
    ),
    Breakage(
        "a token of the reader's that the model does not read",
        "_static/live/sum.js",
        r"state\.forced\[position\]\) \?\?",
        "undefined) ??",
        "test_live.py::test_tokens_are_written_one_at_a_time_and_by_the_reader",
    ),
    Breakage(
        "top-p without its tolerance",
        "_static/live/transformer.js",
        "topP - 1e-5",
        "topP",
        "test_live.py::test_chances_to_draw_from_are_those_of_the_package[0.7-None-1.0]",
    ),
    Breakage(
        "weights of another moment",
        "_static/live/weights/sum-200.js",
        '= ".*"',
        f'= "{OTHER_WEIGHTS}"',
        "test_live.py::test_the_slider_asks_the_model_of_that_moment[200]",
    ),
    Breakage(
        "a mask that hides a position from itself",
        "_static/live/masks.js",
        "key > query",
        "key >= query",
        "test_live.py::test_batch_and_masks_are_those_of_the_package",
    ),
    # Links and files
    Breakage(
        "a link to a page that is gone", CHAPTER, "03_building.html", "03.html", LINKS
    ),
    Breakage(
        "a link to a place that is gone",
        CHAPTER,
        'href="#[^"]+"',
        'href="#lost"',
        LINKS,
    ),
    Breakage(
        "two places of one name",
        CHAPTER,
        "</article>",
        '<p id="__toc"></p></article>',
        "test_files.py::test_no_name_is_given_twice_on_a_page",
    ),
    Breakage(
        "Binder with another branch", CHAPTER, "/main\\?urlpath", "/x?urlpath", LAUNCHES
    ),
    Breakage(
        "Colab with another chapter",
        CHAPTER,
        r"(blob/main/book/)\w+\.ipynb",
        r"\1x.ipynb",
        LAUNCHES,
    ),
    Breakage(
        "no description", CHAPTER, '<meta name="description"[^>]*>', "", DESCRIBES
    ),
    Breakage(
        "a canonical address of another page",
        CHAPTER,
        '(rel="canonical" href="[^"]*)02_',
        r"\g<1>03_",
        DESCRIBES,
    ),
    Breakage(
        "a map of the site that lacks a page",
        "sitemap.xml",
        "<url>.*?</url>",
        "",
        "test_files.py::test_the_map_of_the_site_lists_every_page_once",
    ),
    Breakage(
        "a page for wrong addresses without its style",
        "404.html",
        'href="/[^"]*furo.css',
        'href="_static/styles/furo.css',
        "test_pages.py::test_a_wrong_address_gets_a_page_with_its_style_and_its_links",
    ),
    Breakage(
        "half a PDF",
        "transformer-in-use.pdf",
        "%%EOF.*",
        "",
        "test_files.py::test_the_pdf_is_linked_and_whole",
    ),
    Breakage(
        "a chapter too heavy for a phone",
        CHAPTER,
        "</body>",
        f"<!-- {os.urandom(300_000).hex()} --></body>",
        WEIGHT,
    ),
]


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the site and its tests, which vanishes at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="breakage-") as directory:
        tree = Path(directory).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name)
            else:
                shutil.copy(ROOT / name, tree)
        yield tree


def run_tests(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    paths = (f"tests/site/{test}" for test in tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-pno:cacheprovider", *paths],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def broken(breakage: Breakage, tree: Path) -> Iterator[None]:
    """Break the site; mend it at the end of the block."""
    path = tree / "_build/html" / breakage.file
    whole = path.read_bytes()
    # Every byte is a letter of Latin-1, so that a font or a PDF can be read as text.
    text, count = re.subn(
        breakage.pattern,
        breakage.replacement,
        whole.decode("latin-1"),
        count=1,
        flags=re.DOTALL,
    )
    if count == 0:
        sys.exit(f"{breakage.file} has no match for {breakage.pattern!r}")
    path.write_bytes(text.encode("latin-1"))
    yield
    path.write_bytes(whole)


def main() -> int:
    caught = 0
    with copied_tree() as tree:
        result = run_tests(tree, *sorted({breakage.test for breakage in BREAKAGES}))
        if result.returncode:
            sys.exit(f"The whole site must pass:\n{result.stdout}{result.stderr}")
        print("| broken | where | noticed by | verdict |")
        print("|--------|-------|------------|---------|")
        for breakage in BREAKAGES:
            with broken(breakage, tree):
                result = run_tests(tree, breakage.test)
            is_failure = result.returncode == 1 and "1 failed" in result.stdout
            caught += is_failure
            verdict = "caught" if is_failure else "NOT CAUGHT"
            row = (breakage.bug, breakage.file, breakage.test, verdict)
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{caught} of {len(BREAKAGES)} caught")
    return int(caught < len(BREAKAGES))


if __name__ == "__main__":
    sys.exit(main())
