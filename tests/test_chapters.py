"""What every chapter owes its reader, checked without running it."""

import ast
import configparser
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("book/*.ipynb"))
#: The numbered ones.
CHAPTERS = [path for path in NOTEBOOKS if path.name[0].isdigit()]
NOT_COMPARED = "nbval-ignore-output"


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def prose(path):
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def printed(output):
    return output.get("text", "") + output.get("data", {}).get("text/plain", "")


def tags(cell):
    return cell.metadata.get("tags", [])


def parsed(cell):
    """The code, with IPython's commands left out."""
    return ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", cell.source, flags=re.MULTILINE))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_every_code_cell_is_stored_executed_and_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_at_least_three_quarters_of_the_code_cells_are_compared(notebook):
    cells = code_cells(notebook)
    compared = [cell for cell in cells if NOT_COMPARED not in tags(cell)]
    assert len(compared) >= 0.75 * len(cells)


def test_no_output_that_hangs_on_a_clock_is_compared(notebook):
    # Names that hold seconds, or come from them: every cell that prints one is excused.
    clocked = {"perf_counter"}
    for cell in code_cells(notebook):
        for statement in parsed(cell).body:
            names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            names |= {
                n.attr for n in ast.walk(statement) if isinstance(n, ast.Attribute)
            }
            if names & clocked and isinstance(statement, (ast.FunctionDef, ast.Assign)):
                targets = getattr(statement, "targets", [])
                clocked |= {t.id for t in targets if isinstance(t, ast.Name)}
                clocked |= {getattr(statement, "name", "perf_counter")}
            elif names & clocked and "print" in names:
                assert NOT_COMPARED in tags(cell), cell.source


def test_no_cell_is_skipped_or_excused_in_another_way(notebook):
    allowed = {NOT_COMPARED, "hide-input", "remove-cell"}
    for cell in code_cells(notebook):
        assert set(tags(cell)) <= allowed
        assert not re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)", cell.source)


def literals(cell):
    """Every text that stands in the code, the pieces of f-strings among them."""
    for node in ast.walk(parsed(cell)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def names_a_file(text):
    """Whether `text`, in a cell of `book/`, would lead to a file of the repository."""
    if text.startswith("../"):
        return True
    is_name = 0 < len(text) < 200 and text.isprintable()
    return is_name and (ROOT / "book" / text).is_file()


def test_a_notebook_needs_no_file_beside_it(notebook):
    """Opened alone, as in Colab, it has the installed package and nothing else."""
    texts = [text for cell in code_cells(notebook) for text in literals(cell)]
    assert [text for text in texts if names_a_file(text)] == []


def test_the_code_of_a_solution_is_folded_in_jupyterlab_and_no_other_is(notebook):
    in_solution = False
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            folded = {"source_hidden": True, "outputs_hidden": True}
            assert cell.metadata.get("jupyter", {}) == (folded if in_solution else {})
        for start_or_end in re.findall(r"\{solution-(start|end)\}", cell.source):
            in_solution = start_or_end == "start"


def test_no_output_holds_an_error_a_warning_or_a_path_of_the_machine(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            text = json.dumps(
                {**output, "data": {**output.get("data", {}), "image/png": ""}}
            )
            assert not re.search(r"Warning|/home/|/root/|/tmp/|/Users/|it/s\]", text)


def test_what_a_cell_prints_is_stored_in_one_piece(notebook):
    for cell in code_cells(notebook):
        streams = [o for o in cell.outputs if o.output_type == "stream"]
        assert len(streams) <= 1, cell.source


def test_cells_that_are_compared_do_not_print_addresses_or_long_floats(notebook):
    for cell in code_cells(notebook):
        if NOT_COMPARED in tags(cell):
            continue
        for output in cell.outputs:
            found = re.search(r"0x[0-9a-f]{6,}|\d\.\d{7,}", printed(output))
            assert not found, cell.source


@pytest.mark.parametrize(
    ("line", "compared"),
    [
        ("share ≈ 0.83 of 1,000", "share ≈ N of 1,000"),
        ("loss ≈ -1.2e-05 after ≈  7 %", "loss ≈ N after ≈ N %"),
        ("exactly 0.83", "exactly 0.83"),
        ("about ≈ 1,024.5, then 3", "about ≈ N, then 3"),
    ],
)
def test_the_comparison_leaves_out_the_number_behind_about_and_nothing_else(
    line, compared
):
    rules = configparser.ConfigParser()
    rules.read(ROOT / "book/varying_numbers.cfg", encoding="utf-8")
    (rule,) = (rules[name] for name in rules.sections())
    assert re.sub(rule["regex"], rule["replace"], line) == compared


def test_every_figure_has_a_caption_a_name_and_alternative_text(notebook):
    for cell in code_cells(notebook):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            mystnb = cell.metadata.get("mystnb", {})
            assert mystnb["figure"]["caption"].strip()
            assert mystnb["figure"]["name"].startswith("fig-")
            assert mystnb["image"]["alt"].strip()


def test_imports_stand_in_one_folded_cell_of_at_most_fifteen_lines(notebook):
    importing = [
        cell
        for cell in code_cells(notebook)
        if "remove-cell" not in tags(cell)
        # A self-check is imported where its exercise stands, a solution brings its own.
        and "transformer.exercises" not in cell.source
        and not cell.metadata.get("jupyter")
        and any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in parsed(cell).body)
    ]
    assert len(importing) == 1
    assert "hide-input" in tags(importing[0])
    assert len(importing[0].source.splitlines()) <= 15


def exercises(notebook):
    """The text of every exercise, from its label on."""
    text = prose(notebook)
    return re.findall(
        r"\{exercise(?:-start)?\} .*\n:label: (\S+)\n(?::::\n)?\s*(.*)", text
    )


def test_every_exercise_says_how_much_it_asks_for(notebook):
    found = exercises(notebook)
    assert len(found) == len(re.findall(r"\{exercise(?:-start)?\}", prose(notebook)))
    for label, first_line in found:
        marks = r"\*\*(Warm-up|Core|Stretch)\.\*\* "
        assert re.match(marks, first_line), label


def test_the_book_prints_numbers_and_few_verdicts():
    verdicts = [
        (path.stem, line)
        for path in NOTEBOOKS
        for cell in code_cells(path)
        for output in cell.outputs
        for line in printed(output).splitlines()
        if re.search(r"\b(True|False)\s*$", line)
    ]
    assert len(verdicts) <= 20, verdicts


def test_the_ten_chapters_stay_short():
    words = {path.stem: len(prose(path).split()) for path in CHAPTERS}
    assert sum(words.values()) <= 27_000, words


def test_the_first_right_answer_of_a_model_comes_soon():
    preface = (ROOT / "book/preface.md").read_text("utf-8")
    words = len(preface.split())
    for cell in nbformat.read(CHAPTERS[0], as_version=4).cells:
        if cell.cell_type == "markdown":
            words += len(cell.source.split())
        elif "greedy_decode" in cell.source:
            break
    assert words <= 900


def test_what_differs_between_machines_is_said_in_one_box(notebook):
    boxes = prose(notebook).count("{admonition} What differs on your machine")
    varies = any("≈" in printed(o) for c in code_cells(notebook) for o in c.outputs)
    assert boxes <= 1
    # Chapter 1 comes before the word for it, and the page that explains it needs none.
    assert boxes or not (varies and notebook in CHAPTERS[1:])


def test_every_chapter_opens_with_goals_and_closes_with_a_summary(notebook):
    text = prose(notebook)
    assert "**You will**" in text
    assert "**You need**" in text
    assert "**Running time**" in text
    if notebook.stem != "wrap_up":
        assert text.index("## Summary") < text.index("## Further reading")


def test_cell_ids_and_figure_names_are_unique_over_the_book():
    cells = [
        cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells
    ]
    ids = Counter(cell.id for cell in cells)
    names = Counter(
        cell.metadata["mystnb"]["figure"]["name"]
        for cell in cells
        if "mystnb" in cell.metadata
    )
    assert [name for name, count in (ids + names).items() if count > 1] == []


def test_the_table_of_contents_lists_every_notebook_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    notebooks = [f"book/{path.stem}" for path in NOTEBOOKS]
    assert sorted(name for name in files if name in notebooks) == notebooks


def test_chapters_link_to_notebooks_that_exist():
    pages = [*NOTEBOOKS, ROOT / "book/preface.md"]
    for page in pages:
        for target in re.findall(r"\]\((\w+\.ipynb)\)", page.read_text()):
            assert (ROOT / "book" / target).exists(), f"{page.name} links to {target}"
