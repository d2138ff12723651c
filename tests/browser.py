"""A headless Chromium for the tests, driven through its DevTools protocol."""

import base64
import io
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
    "--window-size=1000,700",
)


class Page:
    """One page, and what happened on it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; what else comes in is kept in `events`."""
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float], clicks: int = 1) -> None:
        """Press the left button at `start`, move to `end`, let it go."""
        for kind, (x, y) in [("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=clicks)

    def press(self, key: str) -> None:
        """Press a key: a letter, a sign, or a name as in ArrowLeft."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def touch(self, *paths: tuple[tuple[float, float], tuple[float, float]]) -> None:
        """Put down a finger at each path's start, move all to their ends, lift them."""
        for kind, place in [("touchStart", 0), ("touchMove", 1)]:
            points = [{"x": path[place][0], "y": path[place][1], "id": k} for k, path in enumerate(paths)]
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self) -> np.ndarray:
        data = self.call("Page.captureScreenshot")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        sent = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    @property
    def errors(self) -> list[str]:
        """Uncaught exceptions and what was logged as an error."""
        found = [json.dumps(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        logged = (e["params"] for e in self.events if e["method"] == "Runtime.consoleAPICalled")
        found += [json.dumps(p["args"]) for p in logged if p["type"] == "error"]
        entries = (e["params"]["entry"] for e in self.events if e["method"] == "Log.entryAdded")
        return found + [entry["text"] for entry in entries if entry["level"] == "error"]


@contextmanager
def open_page(address: str, profile: Path) -> Iterator[Page]:
    """Open a page in a fresh headless Chromium; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine: the page is not looked at")
    process = subprocess.Popen(
        [chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_page_socket(profile), max_size=None) as connection:
            page = Page(connection)
            page.call("Page.navigate", url=address)
            yield page
    finally:
        process.terminate()
        process.wait(timeout=30)


def _page_socket(profile: Path, timeout_s: float = 60) -> str:
    """Wait until Chromium listens, and find the address of its first page."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
        except (OSError, IndexError):
            continue
        if pages:
            return pages[0]["webSocketDebuggerUrl"]
    raise TimeoutError("chromium did not start")
