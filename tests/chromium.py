"""Headless Chromium for tests: a page is opened, measured and photographed over the browser's own debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: Debian's, and other names under which it is installed.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars --remote-debugging-pipe "
    "--disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage"
)


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Browser:
    """A tab: commands go out as JSON ended by a zero byte, answers and events come back the same way."""

    requests: int
    answers: int
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    _rest: bytes = b""
    _sent: int = 0

    def send(self, method: str, **params):
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.requests, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._sent:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _receive(self):
        while b"\0" not in self._rest:
            block = os.read(self.answers, 1 << 16)
            if not block:
                raise RuntimeError("Chromium ended")
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(params))
        elif method == "Network.requestWillBeSent":
            self.fetched.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    def open(self, page: Path | str, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Load a file or an address in a window of `width` CSS pixels; everything that it complains about or fetches is noted."""
        self.complaints.clear()
        self.fetched.clear()
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self.loaded = False
        self.send("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while not self.loaded:
            self._note(self._receive())
        self.evaluate("document.fonts.ready.then(() => 0)")

    def resize(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression; promises are waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def photograph(self, path: Path) -> Path:
        """Write the whole page as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def print(self, path: Path) -> Path:
        """Write the page as PDF, as a printer would get it from a dark screen."""
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        self.send("Emulation.setEmulatedMedia", media="print", features=[dark])
        answer = self.send("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path


@contextmanager
def browse() -> Iterator[Browser]:
    """Start Chromium, give a tab, and end it.

    Raises:
        RuntimeError: it cannot be started.
    """
    program = find_chromium()
    if program is None:
        raise RuntimeError("no Chromium is installed")
    (their_in, requests), (answers, their_out) = os.pipe(), os.pipe()
    # The browser may still write while it ends.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        plumbing = f"exec '{program}' {_FLAGS} '--user-data-dir={profile}' about:blank 3<&{their_in} 4>&{their_out}"
        process = subprocess.Popen(
            ["/bin/bash", "-c", plumbing], pass_fds=(their_in, their_out), stderr=subprocess.DEVNULL
        )
        os.close(their_in)
        os.close(their_out)
        try:
            browser = Browser(requests, answers)
            target = browser.send("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.send(f"{domain}.enable")
            yield browser
        finally:
            process.kill()
            process.wait()
            os.close(requests)
            os.close(answers)
