import os

import pytest

from transformer.files import clear_unfinished, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "state"
    write_atomically(path, b"first, and longer")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["state"]


def test_a_full_disk_leaves_the_former_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomically(path, b"first")

    def disk_full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["state"]


def test_what_killed_writes_left_is_cleared_and_nothing_else(tmp_path):
    path = tmp_path / "state.v1"
    digits = "0123456789abcdef" * 2
    others = [
        f".stateXv1.{digits}",
        f".state.v1.{digits}0",
        ".state.v1.bak",
        "state.v1",
    ]
    for name in [*others, f".state.v1.{digits}", f".state.v1.{digits[::-1]}"]:
        (tmp_path / name).write_bytes(b"torn")
    clear_unfinished(path)
    assert names(tmp_path) == sorted(others)


def test_a_killed_write_leaves_a_name_that_is_cleared(tmp_path, monkeypatch):
    path = tmp_path / "state"
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.extend(names(tmp_path)))
    write_atomically(path, b"whole")
    assert len(seen) == 1
    (tmp_path / seen[0]).write_bytes(b"torn")
    clear_unfinished(path)
    assert names(tmp_path) == ["state"]
