"""The built site, as a reader has it: links, widths and scripts of every page.

`make site` builds it and runs this in a headless Chromium; `make test` leaves it out.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).resolve().parents[2] / "docs" / "_build" / "html"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
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


# Chromium reads the protocol from descriptor 3 and writes it to descriptor 4.
_EXECUTE = "import os, sys; [os.dup2(int(sys.argv[i]), 2 + i) for i in (1, 2)]; " + (
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """A headless Chromium that is spoken to by its DevTools protocol, over two pipes."""

    def __init__(self, folder):
        (there, self._out), (self._in, back) = os.pipe(), os.pipe()
        command = [
            *(sys.executable, "-c", _EXECUTE, str(there), str(back)),
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"),
        ]
        self.process = subprocess.Popen(
            command, pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(there)
        os.close(back)
        self._numbers, self._unread, self.session, self.events = itertools.count(1), b"", None, []

    def attach(self):
        """Open the tab that the pages are shown in."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Send a command, and return its result; what happens meanwhile goes to `events`."""
        message = {"id": next(self._numbers), "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        """The next message."""
        while b"\0" not in self._unread:
            read = os.read(self._in, 1 << 16)
            assert read, "the browser has ended"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def open(self, path, width):
        """Show a page in a window of this width, and wait until it is loaded."""
        self.events.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        self.ask("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression):
        """What a JavaScript expression gives on the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def errors(self):
        """What the page wrote to the console as an error, or raised."""
        for event in self.events:
            about = event.get("params", {})
            match event.get("method"), about.get("type"), about.get("entry"):
                case "Runtime.exceptionThrown", _, _:
                    yield str(about["exceptionDetails"])
                case "Runtime.consoleAPICalled", "error", _:
                    yield str(about["args"])
                case "Log.entryAdded", _, {"level": "error", "text": text, **more}:
                    yield f"{text} {more.get('url', '')}"

    def close(self):
        """End the browser."""
        os.close(self._out)
        self.process.wait(timeout=20)
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        opened.attach()
        yield opened
    finally:
        opened.close()


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
