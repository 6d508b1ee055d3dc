"""What chapters show and what the package prints, wherever it is printed."""

import ast
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

import transformer
from transformer import END, START, AdditionTask, CopyTask, FeedForward
from transformer.masks import causal_mask
from transformer.notebook import print_anywhere, read_model, read_results, show_source

PACKAGE = Path(transformer.__file__).parent


def test_a_class_is_shown_as_a_python_block():
    shown = show_source(FeedForward).data
    assert shown.startswith("```python\nclass FeedForward(nn.Module):\n")
    assert shown.endswith("return self.contract(self.expand(x).relu())\n```")


def test_a_function_is_shown_as_a_python_block():
    shown = show_source(causal_mask).data
    assert shown.startswith("```python\ndef causal_mask(length: int")
    assert shown.endswith(".tril()\n```")


PRINTING = r"""
from transformer.exercises.failure_gallery import check_is_causal
from transformer.exercises.setup import check_device_name
from transformer.exercises.troubleshooting import check_forecast
from transformer.observation import ShapeRecord, shape_ledger

check_device_name(check_device_name.solution)
check_is_causal(lambda model, tgt_in: 1 / 0)
check_device_name(lambda *_: "gr\u00fcn \u2713 \ud800")
check_forecast({"width 2": "\u2264"})
print(shape_ledger([ShapeRecord("a", "Linear", [[5, 3]], [[5, 2]])], {}))
"""


@pytest.mark.parametrize(
    ("encoding", "right", "healthy", "green"),
    [
        ("utf-8", "✓", "⟨healthy⟩", "grün ✓"),
        ("cp1252", "[right]", "<healthy>", "grün [right]"),
        ("cp932", "[right]", "<healthy>", r"gr\xfcn [right]"),
        ("ascii", "[right]", "<healthy>", r"gr\xfcn [right]"),
    ],
)
def test_what_the_package_prints_can_be_printed_anywhere(
    encoding, right, healthy, green
):
    result = subprocess.run(
        [sys.executable, "-c", PRINTING],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        cwd=PACKAGE.parent,
        capture_output=True,
        check=True,
    )
    first, second, third, *others = result.stdout.decode(encoding).splitlines()
    assert first == f"{right} Right on all 16 inputs."
    assert healthy in second
    assert "raises ZeroDivisionError" in second
    assert f"your answer is '{green} \\ud800'" in third
    assert len(others) == 4 + 2


def test_an_output_without_an_encoding_of_its_own_gets_the_text_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_anywhere("✓ grün")
    assert sys.stdout.getvalue() == "✓ grün\n"


def test_no_other_function_prints_but_those_of_the_command_line():
    printing = {
        path.name
        for path in PACKAGE.glob("**/*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    command_line = {"__main__.py", "commands.py", "translation.py"}
    assert printing == {"notebook.py"} | command_line


def test_results_are_read_from_the_package():
    stored = sorted(path.stem for path in PACKAGE.glob("results/*.json"))
    assert {"book", "decoding", "learning", "rounding", "training"} <= set(stored)
    for name in stored:
        assert read_results(name)["date"] >= "2026"


def test_the_stored_models_do_what_their_names_say():
    assert {path.stem for path in PACKAGE.glob("results/*.safetensors")} == {
        "copy",
        "sum-1800",
    }
    adding, copying = read_model("sum-1800"), read_model("copy")
    for model in (adding, copying):
        assert not model.training
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    task = AdditionTask(2)
    pairs = task.all_pairs()[::7]
    decoded = adding.greedy_decode(task.make_batch(pairs).src, 5, START, END)
    assert torch.equal(task.read_sums(decoded), pairs.sum(dim=1))
    batch = CopyTask().sample(200, torch.Generator().manual_seed(0))
    decoded = copying.greedy_decode(batch.src, 10, START, END)[:, 1:]
    exact = (decoded == batch.tgt_out[:, : decoded.size(1)]).all(dim=1)
    assert exact.float().mean() > 0.9


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what `pip install` of a wheel installs, and nothing else."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PACKAGE.parent / name, source)
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=without)
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*wheel, "--no-index", "--wheel-dir", source, source],
        check=True,
        capture_output=True,
    )
    [path] = source.glob("*.whl")
    zipfile.ZipFile(path).extractall(target)
    return target


def test_the_wheel_holds_the_package_and_its_results_alone(installed):
    def files(root):
        return {
            path.relative_to(root)
            for path in root.glob("**/*.*")
            if path.suffix in (".py", ".json", ".safetensors")
        }

    assert files(installed / PACKAGE.name) == files(PACKAGE)
    beside = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert beside == {PACKAGE.name}


def test_measured_runs_alone_with_the_installed_package(installed, tmp_path):
    chapter = nbformat.read(PACKAGE.parent / "book/measured.ipynb", as_version=4)
    path = nbformat.v4.new_code_cell("import transformer; print(transformer.__file__)")
    alone = nbformat.v4.new_notebook(cells=[*chapter.cells, path])
    client = NotebookClient(
        alone, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=os.environ | {"PYTHONPATH": str(installed)})
    assert alone.cells[-1].outputs[0].text.startswith(str(installed))
    for before, after in zip(chapter.cells, alone.cells, strict=False):
        if before.cell_type == "code":
            assert len(before.outputs) == len(after.outputs)
