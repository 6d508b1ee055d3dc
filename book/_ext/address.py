"""The book's public address, `repository.url` in `_config.yml`, and what follows from it.

The pages get launch buttons and canonical addresses. As a command, this file changes the
address everywhere it is written: `make address REPOSITORY=https://github.com/me/my-book`,
or `make address` for that of the git remote `origin`.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

FORM = re.compile(r"https://github\.com/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?<!\.git)")
# How git names a repository on GitHub, with whatever login.
REMOTE = re.compile(
    r"(?:https://(?:[^/]+@)?github\.com/|(?:ssh://)?git@github\.com[:/])"
    r"(?P<owner_and_name>[^/]+/[^/]+?)(?:\.git)?/?"
)
PLACEHOLDER = "OWNER"  # who owns the repository, as long as nobody does
# What holds the address besides `_config.yml`: readers run these without the built pages.
COPIES = ("README.md", "book/*.ipynb")


def read_repository(root: Path) -> tuple[str, str]:
    """Address and branch of the repository, as `_config.yml` has them."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    repository = config["repository"]
    check_form(repository["url"])
    return repository["url"], repository["branch"]


def check_form(url: str) -> None:
    """Raise unless `url` has the form that launch links are made from."""
    if not FORM.fullmatch(url):
        raise ValueError(
            f"the repository's address ({url}) must have the form "
            "https://github.com/OWNER/NAME"
        )


def site_url(repository: str) -> str:
    """Where GitHub Pages publishes the repository's site."""
    owner, name = FORM.fullmatch(repository).group("owner", "name")
    return f"https://{owner.lower()}.github.io/{name}/"


def launch_links(repository: str, branch: str, notebook: str) -> dict[str, str]:
    """Where each service opens `notebook`, a path in the repository."""
    owner_and_name = repository.removeprefix("https://github.com/")
    return {
        "Binder": f"https://mybinder.org/v2/gh/{owner_and_name}/{branch}"
        f"?urlpath=lab/tree/{notebook}",
        "Colab": f"https://colab.research.google.com/github/{owner_and_name}"
        f"/blob/{branch}/{notebook}",
    }


def origin(root: Path) -> str:
    """Address of the repository on GitHub that git knows as `origin`."""
    answer = subprocess.run(
        ["git", "-C", root, "remote", "get-url", "origin"],
        capture_output=True,
        text=True,
    )
    url = answer.stdout.strip()
    if remote := REMOTE.fullmatch(url):
        return f"https://github.com/{remote['owner_and_name']}"
    without_login = re.sub("//.*@", "//", url)
    problem = f"({without_login}) is not on GitHub" if url else "does not exist"
    raise ValueError(
        f"the git remote origin {problem}; name the address: "
        "make address REPOSITORY=https://github.com/OWNER/NAME"
    )


def check_own(root: Path, own: str) -> None:
    """Raise unless the address is that of the repository `own`, which publishes."""
    check_form(own)
    written, _ = read_repository(root)
    stands_in = FORM.fullmatch(written)["owner"] == PLACEHOLDER
    if stands_in or written.lower() != own.lower():
        raise ValueError(
            f"the book's address is {written}, and {own} may not publish with it: "
            f"make address REPOSITORY={own}, and commit what it changes"
        )


def tell_sphinx(app: Sphinx, config: Config) -> None:
    """Derive the addresses that other extensions ask for."""
    repository, branch = read_repository(Path(app.srcdir))
    config.repository = f"{repository} {branch}"
    config.html_baseurl = config.ogp_site_url = site_url(repository)
    # The page for wrong addresses is served from any depth, so its links begin at the top.
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path


def add_to_page(
    app: Sphinx,
    pagename: str,
    _templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Give the templates the repository and, for a notebook, its launch links."""
    repository, branch = app.config.repository.split()
    context["repository"] = repository
    source = Path(app.env.doc2path(pagename))
    if doctree is not None and source.suffix == ".ipynb":
        context["launch_links"] = launch_links(repository, branch, f"{pagename}.ipynb")


def write_sitemap(app: Sphinx, error: Exception | None) -> None:
    """List all pages for search engines, also those that this build left as they were."""
    if error is not None or app.builder.format != "html":
        return
    places = "".join(
        f"  <url><loc>{app.config.html_baseurl}{app.builder.get_target_uri(name)}</loc>"
        "</url>\n"
        for name in sorted(app.env.found_docs)
    )
    Path(app.outdir, "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}</urlset>\n',
        "utf-8",
    )


def change(root: Path, new: str) -> list[Path]:
    """Write the address `new` wherever the old one stands; return the files changed."""
    check_form(new)
    old, _ = read_repository(root)
    changed = []
    for path in [root / "_config.yml", *(p for c in COPIES for p in root.glob(c))]:
        text = path.read_text("utf-8")
        for before, after in ((old, new), (site_url(old), site_url(new))):
            text = text.replace(before, after)
        if text != path.read_text("utf-8"):
            path.write_text(text, "utf-8", newline="\n")
            changed.append(path)
    return changed


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.add_config_value("repository", "", "html")
    app.connect("config-inited", tell_sphinx, priority=100)
    app.connect("html-page-context", add_to_page)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(arguments: list[str]) -> None:
    """Change the address, or check it, and say in one line what is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("repository", nargs="?", help="default: the git remote origin")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    try:
        repository = options.repository or origin(root)
        if options.check:
            check_own(root, repository)
        else:
            for file in change(root, repository):
                print("changed:", file.relative_to(root))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
