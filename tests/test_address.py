"""The public address is written in one place, and one command changes it everywhere."""

import shutil
from pathlib import Path

import address
import pytest

ROOT = Path(__file__).parent.parent
NEW = "https://github.com/Ada-Lovelace/my.book_2"


def test_all_that_follows_from_an_address():
    assert address.site_url(NEW) == "https://ada-lovelace.github.io/my.book_2/"
    assert address.launch_links(NEW, "main", "book/05_data.ipynb") == {
        "Binder": "https://mybinder.org/v2/gh/Ada-Lovelace/my.book_2/main"
        "?urlpath=lab/tree/book/05_data.ipynb",
        "Colab": "https://colab.research.google.com/github/Ada-Lovelace/my.book_2"
        "/blob/main/book/05_data.ipynb",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "github.com/me/book",
        "https://github.com/me",
        "https://github.com/me/book/",
        "https://gitlab.com/me/book",
        "https://github.com/me/my book",
    ],
)
def test_an_address_of_another_form_is_refused(wrong, tmp_path):
    with pytest.raises(
        ValueError, match=r"must have the form https://github\.com/OWNER"
    ):
        address.change(tmp_path, wrong)


def test_a_change_reaches_every_file_that_holds_the_address(tmp_path):
    for name in ("_config.yml", "README.md", "book", ".github"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    old, branch = address.read_repository(tmp_path)

    changed = address.change(tmp_path, NEW)

    assert tmp_path / "_config.yml" in changed
    assert tmp_path / "README.md" in changed
    assert set(tmp_path.glob("book/*.ipynb")) <= set(changed)
    assert address.read_repository(tmp_path) == (NEW, branch)
    left = [
        path
        for path in tmp_path.rglob("*")
        if path.suffix in (".md", ".yml", ".ipynb", ".txt", ".html")
        and (old in (text := path.read_text("utf-8")) or address.site_url(old) in text)
    ]
    assert left == []
    assert address.change(tmp_path, NEW) == []
