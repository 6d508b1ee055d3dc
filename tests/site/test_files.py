"""What can be checked in the built files without a browser."""

import gzip
import json
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from xml.etree import ElementTree

import address
import pytest
from bs4 import BeautifulSoup
from conftest import BRANCH, CHAPTERS, HTML, PAGES, PREFIX, REPOSITORY, ROOT
from sphinx.util.images import get_image_size

SITE = address.site_url(REPOSITORY)
SOUPS = {
    name: BeautifulSoup((HTML / name).read_text("utf-8"), "html.parser")
    for name in PAGES
}
every_page = pytest.mark.parametrize("name", PAGES)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)


def inside(name, link):
    """The file and the anchor that a link on a page leads to, or None if it leaves."""
    target, fragment = urldefrag(urljoin(SITE + name, link))
    if not target.startswith(SITE):
        return None
    return unquote(urlsplit(target).path.removeprefix(PREFIX)), unquote(fragment)


def attributes(soup, *names):
    return [
        element[attribute]
        for attribute in names
        for element in soup.find_all(attrs={attribute: True})
    ]


@every_page
def test_every_link_leads_to_a_file_and_every_anchor_to_its_place(name):
    lost = []
    for link in attributes(SOUPS[name], "href", "src"):
        place = inside(name, link)
        if place is None:
            continue
        file, fragment = place
        is_page = fragment and file in SOUPS
        if not (HTML / file).exists() or (
            is_page and not SOUPS[file].find(id=fragment)
        ):
            lost.append(link)
    assert lost == []


@every_page
def test_no_name_is_given_twice_on_a_page(name):
    ids = [element["id"] for element in SOUPS[name].find_all(id=True)]
    assert sorted(i for i in set(ids) if ids.count(i) > 1) == []


@every_page
def test_a_page_describes_itself(name):
    head = SOUPS[name].head
    assert head.title.get_text().strip()
    if name in ("404.html", "search.html", "genindex.html", "py-modindex.html"):
        return
    assert len(head.find("meta", attrs={"name": "description"})["content"]) >= 30
    assert head.find("link", rel="canonical")["href"] == SITE + name
    for wanted in ("og:title", "og:description", "og:image", "og:url"):
        assert head.find("meta", property=wanted)["content"]


def test_descriptions_differ():
    texts = [
        tag["content"]
        for soup in SOUPS.values()
        if (tag := soup.find("meta", attrs={"name": "description"}))
    ]
    assert len(set(texts)) == len(texts)


@every_chapter
def test_launch_links_lead_to_the_notebook_of_the_page(name):
    notebook = name.replace(".html", ".ipynb")
    assert (ROOT / notebook).exists()
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    links = {link.get_text(): link["href"] for link in SOUPS[name].select(".launch a")}
    assert links["Binder"] == (
        f"https://mybinder.org/v2/gh/{owner_and_name}/{BRANCH}"
        f"?urlpath=lab/tree/{notebook}"
    )
    assert links["Colab"] == (
        f"https://colab.research.google.com/github/{owner_and_name}"
        f"/blob/{BRANCH}/{notebook}"
    )
    file, _ = inside(name, links["Download notebook"])
    downloaded, original = (
        json.loads(path.read_text("utf-8")) for path in (HTML / file, ROOT / notebook)
    )
    assert Path(file).suffix == ".ipynb"
    assert downloaded == original


def compressed(files):
    return sum(len(gzip.compress(file.read_bytes())) for file in files) / 1_000


@every_chapter
def test_a_chapter_weighs_at_most_250_kilobytes_and_600_with_its_figures(name):
    soup = SOUPS[name]
    head = {
        HTML / inside(name, link)[0]
        for link in [
            *(tag["href"] for tag in soup.find_all("link", rel="stylesheet")),
            *(tag["src"] for tag in soup.find_all("script", src=True)),
        ]
    }
    fonts = HTML.glob("_static/*.woff2")
    figures = {HTML / inside(name, tag["src"])[0] for tag in soup.find_all("img")}
    text = compressed([HTML / name, *head, *fonts])
    assert text <= 250
    assert text + compressed(figures) <= 600


def test_the_map_of_the_site_lists_every_page_once():
    places = ElementTree.parse(HTML / "sitemap.xml").iterfind(".//{*}loc")
    urls = [place.text for place in places]
    unlisted = {"404.html", "search.html", "py-modindex.html"}
    assert sorted(urls) == sorted(SITE + name for name in PAGES if name not in unlisted)


def test_the_card_for_shared_links_has_the_size_that_services_ask_for():
    card = SOUPS[CHAPTERS[0]].find("meta", property="og:image")["content"]
    file, _ = inside("index.html", card)
    assert get_image_size(str(HTML / file)) == (1200, 630)


def test_the_pdf_is_linked_and_whole():
    link = SOUPS[CHAPTERS[0]].select_one(".book-links a[href$='.pdf']")
    pdf = HTML / inside(CHAPTERS[0], link["href"])[0]
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert content.rstrip().endswith(b"%%EOF")
    assert content.count(b"/Type /Page\n") >= 100
    assert b"/Outlines" in content
