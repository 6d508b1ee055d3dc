"""The built pages, served as they will be published, and a browser to look at them.

`make site-test` builds first. The pages lie under the path of their public address, and a
wrong address gets the page that is meant for it, as on GitHub Pages.

`BROWSER=firefox pytest tests/site/test_live.py` tries the figures in another browser.
"""

import http.server
import os
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import address
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    sync_playwright,
)

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build/html"
BROWSER = os.environ.get("BROWSER", "chromium")
REPOSITORY, BRANCH = address.read_repository(ROOT)
PREFIX = urlsplit(address.site_url(REPOSITORY)).path


def is_page(path):
    return (
        "_static" not in path.parts and 'http-equiv="Refresh"' not in path.read_text()
    )


PAGES = sorted(
    path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if is_page(path)
)
#: Firefox can be told neither of paper, of colours nor of scripts, and measures no shift.
chromium_only = pytest.mark.skipif(BROWSER == "firefox", reason="Chromium only")
CHAPTERS = [f"book/{path.stem}.html" for path in sorted(ROOT.glob("book/*.ipynb"))]


class PagesHandler(http.server.SimpleHTTPRequestHandler):
    """Serve `HTML` under `PREFIX`; answer wrong addresses with 404.html."""

    def translate_path(self, path):
        path = urlsplit(path).path
        inside = path.removeprefix(PREFIX) if path.startswith(PREFIX) else "nowhere"
        return str(HTML / (inside or "index.html"))

    def send_error(self, code, *_message):
        body = (HTML / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class PagesServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Let a browser hang up: it does so when a page is closed before all has come."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture(scope="session")
def origin():
    """Scheme, host and port of the server, and the path under which the site lies."""
    if not HTML.exists():
        pytest.exit("there are no built pages: run `make site-test`")
    server = PagesServer(("127.0.0.1", 0), PagesHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        start = launch_firefox if BROWSER == "firefox" else launch_chromium
        browser = start(playwright)
        yield browser
        browser.close()


def launch_chromium(playwright: Playwright) -> Browser:
    """Start the Chromium or Chrome of this machine."""
    return playwright.chromium.launch(
        executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )


def launch_firefox(playwright: Playwright) -> Browser:
    """Start the Firefox of this machine, as it is; Playwright's own is a changed one."""
    return playwright.firefox.launch(
        executable_path=shutil.which("firefox") or shutil.which("firefox-esr"),
        channel="moz-firefox",
    )


class Visit:
    """A page in a browser window, and everything that went wrong in it."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.page: Page = context.new_page()
        self.origin = origin
        self.troubles: list[str] = []
        self.requested: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("requestfailed", lambda r: self.troubles.append(f"failed {r.url}"))
        self.page.on("response", self._check)

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text}")

    def _check(self, response):
        if response.status >= 400:
            self.troubles.append(f"{response.status} {response.url}")

    def open(self, name: str) -> Page:
        self.page.goto(self.origin + name, wait_until="load")
        return self.page

    def scroll_through(self) -> None:
        """Come past everything, so that what is loaded late is loaded."""
        self.page.evaluate(
            """async () => {
              const step = innerHeight;
              for (let y = 0; y < document.body.scrollHeight; y += step) {
                scrollTo(0, y);
                await new Promise(resolve => setTimeout(resolve, 20));
              }
              for (const image of document.images) image.loading = "eager";
              await Promise.all([...document.images].map(image => image.decode()));
            }"""
        )


@pytest.fixture
def visit(browser: Browser, origin: str):
    """Make visits: `visit(width=360, color_scheme="dark")`."""
    contexts = []

    def start(width: int = 1280, height: int = 900, **options) -> Visit:
        contexts.append(
            browser.new_context(viewport={"width": width, "height": height}, **options)
        )
        return Visit(contexts[-1], origin)

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def from_disk(visit):
    """Make visits to the files themselves, without a server."""
    return partial(_open_file, visit)


def _open_file(visit, name: str, **options) -> Visit:
    started = visit(**options)
    started.page.goto((HTML / name).as_uri(), wait_until="load")
    return started
