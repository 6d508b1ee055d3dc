"""The public address is written in one place, and one command changes it everywhere."""

import re
import shutil
import subprocess
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
        "https://github.com/me/book.git",
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


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A git repository with this book's configuration, and the working directory."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_origin(clone, url):
    subprocess.run(["git", "-C", clone, "remote", "add", "origin", url], check=True)


@pytest.mark.parametrize(
    "url",
    [
        NEW,
        f"{NEW}.git",
        f"{NEW}/",
        "https://ada:secret@github.com/Ada-Lovelace/my.book_2.git",
        "git@github.com:Ada-Lovelace/my.book_2.git",
        "git@github.com:Ada-Lovelace/my.book_2",
        "ssh://git@github.com/Ada-Lovelace/my.book_2.git",
    ],
)
def test_without_an_argument_the_address_is_that_of_the_remote_origin(clone, url):
    add_origin(clone, url)
    address.main([])
    assert address.read_repository(clone) == (NEW, "main")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, "the git remote origin does not exist; name the address"),
        (
            "https://ada:secret@gitlab.com/me/book.git",
            "(https://gitlab.com/me/book.git)",
        ),
        ("git@example.com:me/book.git", "(git@example.com:me/book.git)"),
        ("https://github.com.example.com/me/book", "github.com.example.com"),
    ],
)
def test_a_remote_that_is_no_repository_on_github_is_refused(clone, url, message):
    if url:
        add_origin(clone, url)
    before = address.read_repository(clone)
    with pytest.raises(SystemExit, match=re.escape(message)) as refusal:
        address.main([])
    assert "make address REPOSITORY=https://github.com/OWNER/NAME" in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert address.read_repository(clone) == before


def test_only_the_book_s_own_repository_publishes_it(clone):
    address.main([NEW])
    for own in (NEW, NEW.lower()):
        address.main(["--check", own])
    for other in ("https://github.com/ada/my.book_2", f"{NEW}3"):
        with pytest.raises(SystemExit) as refusal:
            address.main(["--check", other])
        line = str(refusal.value)
        assert NEW in line
        assert f"make address REPOSITORY={other}" in line
        assert "\n" not in line
    assert address.read_repository(clone)[0] == NEW


def test_an_address_that_stands_in_for_another_is_never_published(clone):
    placeholder = "https://github.com/OWNER/transformer-in-use"
    address.main([placeholder])
    assert address.read_repository(clone)[0] == placeholder
    for own in (placeholder, NEW):
        with pytest.raises(SystemExit, match="OWNER"):
            address.main(["--check", own])
