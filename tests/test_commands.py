import io
import json
import os
import subprocess
import sys

import pytest
import torch
import workers
from helpers import assert_same_weights, snapshot

from transformer import commands, load_checkpoint
from transformer.__main__ import main

TINY = "--d-model 14 --num-heads 2 --num-layers 1 --d-ff 19 --num-steps 6 "
TINY += "--warmup-steps 2 --max-tokens 60"


@pytest.fixture
def folder(tmp_path):
    workers.write_pairs(tmp_path / "pairs.tsv")
    return tmp_path


def train(folder, name="model", options=""):
    pairs = str(folder / "pairs.tsv")
    arguments = ["train", str(folder / name), pairs, "--save-every", "3"]
    return main([*arguments, *TINY.split(), *options.split()])


def test_a_file_of_pairs_becomes_a_model_that_evaluates_and_translates(
    folder, capsys, monkeypatch
):
    assert train(folder, options=f"--held-out {folder / 'pairs.tsv'}") == 0
    files = {path.name for path in (folder / "model").iterdir()}
    assert files == {
        "settings.json",
        "source.txt",
        "target.txt",
        "run.safetensors",
        "model.safetensors",
    }
    capsys.readouterr()

    assert main(["evaluate", str(folder / "model"), str(folder / "pairs.tsv")]) == 0
    pairs = (folder / "pairs.tsv").read_text().splitlines()
    sources = {pair.split("\t")[0] for pair in pairs}
    assert f" of {len(sources)} sources translated" in capsys.readouterr().out

    monkeypatch.setattr("sys.stdin", io.StringIO("a b c\nh\n"))
    command = ["translate", str(folder / "model"), "--n-best", "2", "--max-length", "5"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["a b c", "a b c", "h", "h"]
    for line in lines:
        assert set(line.split("\t")[1].split()) <= set("abcdefgh")


def test_texts_come_in_and_go_out_as_utf_8_whatever_a_pipe_takes(folder):
    pairs = "".join(f"{word} ä\tß {word}\n" for word in "éç")
    (folder / "pairs.tsv").write_text(pairs, "utf-8")
    assert train(folder) == 0
    command = [sys.executable, "-m", "transformer", "translate", folder / "model"]
    done = subprocess.run(
        [*command, "--max-length", "4"],
        input="é ä\n".encode(),
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    source, target = done.stdout.decode("utf-8").rstrip("\r\n").split("\t")
    assert source == "é ä"
    assert set(target.split()) <= set("ßéç")


def test_after_ctrl_c_the_same_command_comes_to_the_same_model(
    folder, monkeypatch, capsys
):
    assert train(folder, "undisturbed") == 0
    save = commands.save_run
    with monkeypatch.context() as patch:
        # Ctrl-C comes when the loop is to save after step 3; the state is saved then.
        calls = iter([KeyboardInterrupt])

        def interrupted(*arguments):
            for error in calls:
                raise error
            save(*arguments)

        patch.setattr(commands, "save_run", interrupted)
        assert train(folder) == 130
    assert "Stopped after step 3; the same command goes on." in capsys.readouterr().out
    assert not (folder / "model" / "model.safetensors").exists()
    torch.manual_seed(99)
    assert train(folder) == 0
    assert_same_weights(
        load_checkpoint(folder / "model" / "model.safetensors"),
        snapshot(load_checkpoint(folder / "undisturbed" / "model.safetensors")),
    )


def test_settings_of_which_one_is_refused_are_not_kept(folder, capsys):
    assert train(folder, options="--label-smoothing 1.5") == 1
    assert "label_smoothing must lie in [0, 1), got 1.5" in capsys.readouterr().err
    assert not (folder / "model").exists()


def test_settings_that_differ_from_those_of_the_folder_are_named(folder, capsys):
    assert train(folder) == 0
    kept = json.loads((folder / "model" / "settings.json").read_text())
    assert kept["d_ff"] == 19
    assert train(folder, options="--d-ff 23") == 1
    assert "has d_ff 19, the command 23: give the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a b\n", "line 62: 0 TABs instead of one"),
        (
            f"{'a ' * 600}a\tb\n",
            r"line 62 has 601 + 2 symbols, more than max-len (512)",
        ),
    ],
)
def test_a_bad_line_ends_the_command_with_its_number(folder, capsys, line, message):
    with (folder / "pairs.tsv").open("a") as file:
        file.write(line)
    assert train(folder) == 1
    assert message in capsys.readouterr().err


def test_a_line_that_the_model_cannot_read_is_named(folder, capsys, monkeypatch):
    assert train(folder) == 0
    for lines, message in (
        ("a b\na z\n", "line 2: symbol 2 of 2, 'z', is not in the vocabulary"),
        ("a b\n\n", "line 2: the source is empty"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        assert main(["translate", str(folder / "model")]) == 1
        assert message in capsys.readouterr().err


def test_a_folder_without_a_model_is_named(tmp_path, capsys):
    assert main(["translate", str(tmp_path / "none")]) == 1
    assert "there is no checkpoint at" in capsys.readouterr().err
