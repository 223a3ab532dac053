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


def pages_of(site):
    """The pages by their paths."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if is_read(site, path)}


def is_read(site, path):
    """Whether it is a page, and not a file that a page shows or offers."""
    return not {"_static", "_downloads", "_sources"} & set(path.relative_to(site).parts)


def dead_links(pages):
    """The links within a site that lead nowhere."""
    return {
        f"{path.name}: {address}"
        for path, page in pages.items()
        for _, address in page.addresses
        if not urlsplit(address).scheme and address != "#" and broken(path, address, pages)
    }


def broken(path, address, pages):
    """Whether a link of a page leads nowhere on the site."""
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return True
    anchor = unquote(parts.fragment)
    return bool(anchor) and target in pages and anchor not in pages[target].anchors


def loaded_from_elsewhere(pages):
    """What pages load over a network."""
    return {
        f"{path.name}: {address}"
        for path, page in pages.items()
        for tag, address in page.addresses
        if tag != "a" and (urlsplit(address).netloc)
    }


# How far to the right a page goes, or its text where the page cuts it off. Tables may scroll.
_REACH = """Math.max(
    document.documentElement.scrollWidth,
    ...[...document.querySelectorAll("article p code, article li code")]
        .filter(code => !code.closest("table"))
        .map(code => Math.floor(code.getBoundingClientRect().right))
)"""


def wider_than(browser, pages, width):
    """The pages that scroll sideways, or are cut off, in a window of this width."""
    found = {}
    for path in pages:
        browser.open(path, width)
        wide = browser.value(_REACH)
        if wide > width:
            found[path.name] = wide
    return found


# Names in tables that stand on more than one line, but for those with a place to break.
_BROKEN_NAMES = """[...document.querySelectorAll("article td code")]
    .filter(code => !/[\\s\\-/]/.test(code.textContent) && code.getClientRects().length > 1)
    .map(code => code.textContent).join(" ")"""


def broken_names(browser, pages, width):
    """The names in tables of each page that are not whole in a window of this width."""
    found = {}
    for path in pages:
        browser.open(path, width)
        if names := browser.value(_BROKEN_NAMES):
            found[path.name] = names
    return found


def errors_of(browser, pages):
    """What pages write to the console as errors, on a first visit."""
    found = {}
    for path in pages:
        browser.open(path, max(WIDTHS))
        browser.value("1")  # what came after the page was loaded has arrived with this answer
        if errors := list(browser.errors()):
            found[path.name] = errors
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def site():
    return pages_of(SITE)


@pytest.mark.slow
@pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site")
class TestSite:
    """Of the site that was built."""

    def test_no_link_leads_nowhere(self, site):
        assert SITE / "index.html" in site
        assert dead_links(site) == set()

    def test_no_page_loads_anything_from_elsewhere(self, site):
        assert loaded_from_elsewhere(site) == set()

    # Before any other test of pages: the theme remembers a visit.
    def test_no_page_has_an_error_in_the_console(self, browser, site):
        assert errors_of(browser, site) == {}

    @pytest.mark.parametrize("width", WIDTHS)
    def test_no_page_scrolls_sideways(self, browser, site, width):
        assert wider_than(browser, site, width) == {}

    @pytest.mark.parametrize("width", WIDTHS)
    def test_names_in_tables_are_whole(self, browser, site, width):
        assert broken_names(browser, site, width) == {}


class TestFaultsAreFound:
    """Each of the tests above fails on a page that has what it looks for."""

    @pytest.fixture
    def pages(self, tmp_path):
        sound = "<html><body id='top'><p>text</p><a href='other.html#there'>a</a></body></html>"
        faulty = """<html><body id='there'><a href='gone.html'>a</a><a href='index.html#no'>a</a>
            <img src='https://example.org/a.png'><p style='width: 1500px'>wide</p>
            <script>console.error('wrong')</script><script>undefined_name()</script></body></html>"""
        (tmp_path / "index.html").write_text(sound, encoding="utf-8")
        (tmp_path / "other.html").write_text(faulty, encoding="utf-8")
        return pages_of(tmp_path)

    def test_links(self, pages):
        assert dead_links(pages) == {"other.html: gone.html", "other.html: index.html#no"}
        assert loaded_from_elsewhere(pages) == {"other.html: https://example.org/a.png"}

    def test_text_that_is_cut_off(self, browser, tmp_path):
        cut = "<article style='overflow-x: hidden'><p><code style='white-space: nowrap'>"
        path = tmp_path / "index.html"
        path.write_text(f"<html><body>{cut}{'long_name' * 99}</code></p></article></body></html>")
        assert list(wider_than(browser, [path], 390)) == ["index.html"]

    def test_names_that_are_broken(self, browser, tmp_path):
        page = "<article><table style='width: 9em'><td style='overflow-wrap: anywhere'>"
        path = tmp_path / "index.html"
        path.write_text(f"<html><body>{page}<code>{'long_name' * 9}</code> <code>a b</code>")
        assert broken_names(browser, [path], 390) == {"index.html": "long_name" * 9}

    @pytest.mark.parametrize("width", WIDTHS)
    def test_width(self, browser, pages, width):
        assert list(wider_than(browser, pages, width)) == ["other.html"]

    def test_console(self, browser, pages):
        found = errors_of(browser, pages)
        assert list(found) == ["other.html"]
        assert "wrong" in str(found) and "undefined_name" in str(found)
