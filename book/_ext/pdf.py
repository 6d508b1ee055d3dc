"""The book as one PDF: the built pages, joined in reading order and printed by Chromium.

`make pdf` runs this file as a command after the pages are built. A build that finds the PDF
publishes it with the pages and links to it.
"""

import posixpath
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

FIRST = "book/preface.html"
NAME = "transformer-in-use.pdf"
# What makes sense on a screen only.
ON_SCREEN = ".launch, .headerlink, script, nav.contents"
COVER = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title></head>
<body data-theme="light"><section class="cover"><p class="title">{title}</p>
<ol>{contents}</ol></section></body></html>"""


def read(page: Path) -> BeautifulSoup:
    """The page's elements."""
    return BeautifulSoup(page.read_text("utf-8"), "html.parser")


def in_reading_order(first: Path) -> list[Path]:
    """All pages from `first` on, each the one that the page before it calls next."""
    pages = [first]
    while link := read(pages[-1]).find("link", rel="next"):
        pages.append((pages[-1].parent / link["href"]).resolve())
    return pages


def anchor(page: str, fragment: str = "") -> str:
    """The name, unique in the whole book, of a place on a page."""
    return f"{Path(page).stem}--{fragment}" if fragment else Path(page).stem


def join(site: Path) -> BeautifulSoup:
    """One document out of all pages of `site`, whose links stay inside it."""
    site = site.resolve()
    pages = in_reading_order(site / FIRST)
    names = {page.relative_to(site).as_posix() for page in pages}
    front = read(pages[0])
    published = front.find("link", rel="canonical")["href"].removesuffix(FIRST)
    articles = []
    for page in pages:
        name = page.relative_to(site).as_posix()
        articles.append(take_article(read(page), name, names, published))
    whole = BeautifulSoup(
        COVER.format(
            language=front.html["lang"],
            title=front.select_one(".sidebar-brand-text").get_text(),
            contents="".join(
                f'<li><a href="#{article["id"]}">{title_of(article)}</a></li>'
                for article in articles
            ),
        ),
        "html.parser",
    )
    for sheet in front.find_all("link", rel="stylesheet"):
        sheet["href"] = beside(FIRST, sheet["href"])
        whole.head.append(sheet)
    whole.body.extend(articles)
    return whole


def beside(page: str, file: str) -> str:
    """Where `file`, linked from `page`, lies as seen from the PDF's folder."""
    return posixpath.normpath(posixpath.join("../html", posixpath.dirname(page), file))


def title_of(article: Tag) -> str:
    """The chapter's title."""
    return article.find("h1").get_text()


def take_article(
    soup: BeautifulSoup, name: str, names: set[str], published: str
) -> Tag:
    """The content of the page `name`, with names and links that hold in the whole book."""
    article = soup.select_one("article")
    for element in article.select(ON_SCREEN):
        element.decompose()
    for element in article.find_all(id=True):
        element["id"] = anchor(name, element["id"])
    article["id"] = anchor(name)
    for element in article.find_all(src=True):
        element["src"] = beside(name, element["src"])
        element["loading"] = "eager"
    for details in article.find_all("details"):
        details["open"] = ""
    for link in article.find_all("a", href=True):
        target, fragment = urldefrag(urljoin(name, link["href"]))
        if target in names:
            link["href"] = f"#{anchor(target, fragment)}"
        elif "://" not in target:
            link["href"] = urljoin(published, link["href"])
    return article


def print_pdf(document: Path, pdf: Path, chromium: str | None) -> None:
    """Let Chromium lay out `document` on paper, with bookmarks."""
    # Needed for nothing else, so it is no part of what builds the book.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(color_scheme="light")
        page.goto(document.as_uri())
        page.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        page.pdf(path=pdf, prefer_css_page_size=True, outline=True, tagged=True)
        browser.close()


def find_pdf(app: Sphinx, config: Config) -> None:
    """Remember whether there is a PDF, so that pages are written anew when there is."""
    config.pdf = NAME if (Path(app.srcdir) / "_build/pdf" / NAME).exists() else ""


def link_pdf(
    app: Sphinx,
    _pagename: str,
    _templatename: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Give the templates the PDF's name."""
    context["pdf"] = app.config.pdf


def publish_pdf(app: Sphinx, error: Exception | None) -> None:
    """Put the PDF beside the pages."""
    if error is None and app.config.pdf:
        shutil.copy(Path(app.srcdir) / "_build/pdf" / NAME, app.outdir)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.add_config_value("pdf", "", "html")
    app.connect("config-inited", find_pdf)
    app.connect("html-page-context", link_pdf)
    app.connect("build-finished", publish_pdf)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    directory = Path("_build/pdf").resolve()
    directory.mkdir(exist_ok=True)
    (directory / "book.html").write_text(str(join(Path("_build/html"))), "utf-8")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    print_pdf(directory / "book.html", directory / NAME, browser)
    print("written:", (directory / NAME).relative_to(Path.cwd()))
