"""The built site, as a reader has it: links, widths and scripts of every page.

`make site` builds it and runs this in a headless Chromium; `make test` leaves it out.
"""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import opened_browser

SITE = Path(__file__).resolve().parents[2] / "docs" / "_build" / "html"
WIDTHS = (390, 1400)
# What loads a file, beside links that a reader follows.
_ADDRESSES = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site"),
]


class Page(HTMLParser):
    """The addresses and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        address = values.get(_ADDRESSES.get(tag, ""))
        if address and values.get("rel") != "canonical":
            self.addresses.append((tag, address))


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in sorted(SITE.rglob("*.html")) if is_read(path)}


def is_read(path):
    """Whether it is a page, and not a file that a page shows or offers."""
    return not {"_static", "_downloads", "_sources"} & set(path.relative_to(SITE).parts)


def broken(path, address, pages):
    """Whether a link of a page leads nowhere on the site."""
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return True
    anchor = unquote(parts.fragment)
    return bool(anchor) and target in pages and anchor not in pages[target].anchors


def test_no_link_within_the_site_leads_nowhere(pages):
    assert SITE / "index.html" in pages
    found = {
        f"{path.relative_to(SITE)}: {address}"
        for path, page in pages.items()
        for _, address in page.addresses
        if not urlsplit(address).scheme and address != "#" and broken(path, address, pages)
    }
    assert found == set()


def test_no_page_loads_anything_from_elsewhere(pages):
    found = {
        f"{path.relative_to(SITE)}: {address}"
        for path, page in pages.items()
        for tag, address in page.addresses
        if tag != "a" and (urlsplit(address).netloc)
    }
    assert found == set()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways(browser, pages, width):
    found = {}
    for path in pages:
        browser.open(path, width)
        wide = browser.value("document.documentElement.scrollWidth")
        if wide > width:
            found[str(path.relative_to(SITE))] = wide
    assert found == {}


def test_no_page_has_an_error_in_the_console(browser, pages):
    found = {}
    for path in pages:
        browser.open(path, max(WIDTHS))
        browser.value("1")  # what came after the page was loaded has arrived with this answer
        if errors := list(browser.errors()):
            found[str(path.relative_to(SITE))] = errors
    assert found == {}
