"""Glossary, notation, API reference and running times: complete and in step."""

import ast
import importlib.util
import inspect
import re
from collections import Counter
from graphlib import TopologicalSorter
from itertools import pairwise, takewhile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from sphinx.pycode import ModuleAnalyzer

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted(ROOT.glob("book/*.ipynb"))
PAGES = sorted(ROOT.glob("book/**/*.md"))
MODULES = sorted(
    path
    for path in ROOT.glob("transformer/**/*.py")
    # The checks of the exercises would give away what the exercises ask for.
    if path.name != "__init__.py"
    and (path.parent.name != "exercises" or path.stem in ("grading", "self_check"))
    and path.name != "__main__.py"
)
# What the self-checks use among themselves.
INTERNAL = {
    "LARGEST_SHOWN",
    "LONGEST_TEXT",
    "attempt",
    "difference",
    "is_blank",
    "one_line",
    "show",
}


def prose(chapter):
    cells = nbformat.read(chapter, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def glossary():
    """Each term with its definition and the file of the chapter that introduces it."""
    entries = re.findall(
        r"^(\S.*)\n  (.+) \[(?:Chapter \d+|Companion [A-E])\]\((.+?)\)$",
        (ROOT / "book/glossary.md").read_text(),
        re.MULTILINE,
    )
    return {term: (definition, file) for term, definition, file in entries}


def linked_terms(text):
    """The terms that `text` links to: "mask", also where it says "masks <mask>"."""
    found = re.findall(r"\{term\}`([^`]+)`", text)
    return [re.sub(r".*<(.+)>", r"\1", form, flags=re.DOTALL) for form in found]


def test_every_term_of_the_glossary_has_a_definition_and_a_chapter():
    text = (ROOT / "book/glossary.md").read_text()
    headings = re.findall(r"^(\S.*)\n  ", text, re.MULTILINE)
    assert headings == list(glossary())
    assert len(headings) >= 60


def test_the_glossary_is_in_alphabetical_order():
    assert all(a.lower() < b.lower() for a, b in pairwise(glossary()))


@pytest.mark.parametrize("term", glossary())
def test_every_term_is_linked_from_the_chapter_that_introduces_it(term):
    _, file = glossary()[term]
    assert term in linked_terms(prose(ROOT / "book" / file))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_links_to_terms_that_exist_once_each(chapter):
    linked = Counter(linked_terms(prose(chapter)))
    assert set(linked) <= set(glossary())
    assert set(linked.values()) <= {1}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_links_to_terms_that_exist(page):
    assert set(linked_terms(page.read_text())) <= set(glossary())


def shape_names(text):
    """The names in shapes such as `[batch, ≤ max_len]`."""
    shapes = re.findall(r"`[^`]*\[([a-z0-9_ ,.≤\n]+)\]`", text)
    return {name for shape in shapes for name in re.findall(r"[a-z]\w+", shape)}


def test_the_notation_page_lists_every_name_in_a_shape():
    used = set().union(
        *(shape_names(path.read_text()) for path in MODULES),
        *(shape_names(prose(path)) for path in CHAPTERS),
    )
    table = (ROOT / "book/notation.md").read_text().partition("## Shapes")[2]
    listed = {
        name
        for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert {"batch", "heads", "query", "key", "d_head"} <= used
    assert used <= listed


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def public_names(path):
    """Functions, classes and constants that a module defines at its top level."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {
                n.id
                for target in node.targets
                for n in ast.walk(target)
                if isinstance(n, ast.Name)
            }
    return {name for name in names if not name.startswith("_")}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def reference():
    """Each module of the API reference with the names that its block lists."""
    modules = {}
    for page in sorted(ROOT.glob("book/api/*.md")):
        for block in re.findall(
            r"```\{eval-rst\}\n(.*?)```", page.read_text(), re.DOTALL
        ):
            [module] = re.findall(r"automodule:: (\S+)", block)
            assert module not in modules
            members = re.findall(r":members: ((?:.+,\n)*.+)", block)
            modules[module] = re.findall(r"\w+", " ".join(members)) + re.findall(
                r"autodata:: (\w+)", block
            )
    return modules


def imports():
    """Each module of the package with those that it imports, annotations included."""
    paths = {
        module_name(path).removesuffix(".__init__"): path
        for path in ROOT.glob("transformer/**/*.py")
    }
    graph = {}
    for module, path in paths.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names |= {node.module}
                names |= {f"{node.module}.{name.name}" for name in node.names}
            elif isinstance(node, ast.Import):
                names |= {name.name for name in node.names}
        graph[module] = names & set(paths)
    return graph


def test_no_module_imports_one_that_imports_it_not_even_for_annotations():
    order = list(
        TopologicalSorter(imports()).static_order()
    )  # raises if there is a circle
    # Whoever imports stands behind what it imports.
    assert order.index("transformer.decoding") < order.index("transformer.transformer")
    assert order.index("transformer.transformer") < order.index("transformer")


def test_the_reference_lists_every_module():
    assert set(reference()) == {module_name(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_the_reference_lists_every_public_name_of_a_module_once(path):
    listed = reference()[module_name(path)]
    assert sorted(listed) == sorted(public_names(path) - INTERNAL)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_autodoc_shows_every_name_that_the_reference_lists(path):
    """autodoc leaves out a member without documentation, and says nothing."""
    module = module_name(path)
    documented = {
        name for _, name in ModuleAnalyzer.for_module(module).find_attr_docs()
    }
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node):
            documented.add(node.name)
    pages = "\n".join(page.read_text() for page in ROOT.glob("book/api/*.md"))
    by_name = set(re.findall(r"autodata:: (\w+)", pages))
    assert set(reference()[module]) <= documented | by_name


def test_the_page_of_running_times_has_a_row_for_every_chapter():
    rows = re.findall(
        r"^\| \[(.+)\]\((.+)\.ipynb\) \| \{run-time\}`(.+)` \|$",
        (ROOT / "book/timings.md").read_text(),
        re.MULTILINE,
    )
    assert {(file, name) for _, file, name in rows} == {
        (path.stem, path.stem) for path in CHAPTERS
    }
    for title, file, _ in rows:
        assert prose(ROOT / f"book/{file}.ipynb").startswith(f"# {title}\n")


def reading_row(chapter):
    """The chapter's row in the table of *For teachers*; exercises come on top."""
    cells = nbformat.read(chapter, as_version=4).cells
    text = prose(chapter)
    title = re.search("^# (.+)$", text, re.MULTILINE)[1]
    read = list(takewhile(lambda cell: "## Exercises" not in cell.source, cells))
    words = sum(len(c.source.split()) for c in read if c.cell_type == "markdown")
    num_cells = sum(cell.cell_type == "code" for cell in read)
    minutes = round((words / 180 + num_cells / 2) / 5) * 5
    marks = Counter(
        re.findall(r"^\*\*(Warm-up|Core|Stretch)\.\*\*", text, re.MULTILINE)
    )
    counts = " | ".join(str(marks[mark]) for mark in ("Warm-up", "Core", "Stretch"))
    return f"| [{title}]({chapter.name}) | {minutes} | {counts} |"


def test_the_page_for_teachers_has_the_reading_time_and_exercises_of_every_chapter():
    page = (ROOT / "book/for_teachers.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| \[.+\| \d+ \|$", line)]
    read = [path for path in CHAPTERS if "{exercise" in prose(path)]
    assert rows == [reading_row(chapter) for chapter in read]


@pytest.fixture(scope="module")
def extension():
    path = ROOT / "book/_ext/markdown_docstrings.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("markdown", "restructured"),
    [
        ("ids `[batch]`.", "ids ``[batch]``."),
        ("`[batch, heads,\n    key]` at once", "``[batch, heads, key]`` at once"),
        ("see `train`", "see :py:obj:`train <transformer.training.train>`"),
        ("see `train(x)`", "see ``train(x)``"),
        ("One.\n\n    a = b\n\nTwo.", "One.\n\n::\n\n    a = b\n\nTwo."),
        # Indented, but in a section, where napoleon looks for its paragraphs.
        ("Args:\n    x: one.\n\n    two.", "Args:\n    x: one.\n\n    two."),
        (
            "| id | name |\n|----|------|\n| 0  | PAD  |",
            ".. list-table::\n   :header-rows: 1\n\n"
            "   * - id\n     - name\n   * - 0\n     - PAD",
        ),
    ],
)
def test_markdown_of_docstrings_becomes_restructured_text(
    extension, markdown, restructured
):
    assert (
        extension.translate(markdown, {"train": "transformer.training.train"})
        == restructured
    )


@pytest.mark.parametrize(
    ("what", "value", "docstring", "shown"),
    [
        ("data", "#0072B2", str.__doc__, ""),
        ("data", 0, int.__doc__, ""),
        (
            "data",
            10,
            "Far beyond any sensible value.",
            "Far beyond any sensible value.",
        ),
        ("attribute", None, "Alias for field number 0", ""),
        ("class", None, "Create new instance of StepResult(loss, gradient_norm)", ""),
        (
            "function",
            None,
            "As `train`.",
            "As :py:obj:`train <transformer.training.train>`.",
        ),
        # No link from a function to itself.
        ("function", None, "`evaluate` twice.", "``evaluate`` twice."),
    ],
)
def test_what_python_says_of_constants_and_named_tuples_is_left_out(
    extension, what, value, docstring, shown
):
    app = SimpleNamespace(srcdir=ROOT)
    lines = inspect.cleandoc(docstring).splitlines()
    extension.translate_docstring(
        app, what, "transformer.training.evaluate", value, None, lines
    )
    assert lines == ([shown, ""] if shown else [""])
