"""A headless Chromium, for the tests of pages."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

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
            *("--disable-quic", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync"),
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


@contextmanager
def opened_browser(folder):
    """A browser whose profile lies in a folder; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    opened = Browser(folder)
    try:
        opened.attach()
        yield opened
    finally:
        opened.close()
