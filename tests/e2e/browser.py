"""Headless Chromium, controlled through its debugging pipe.

The protocol (https://chromedevtools.github.io/devtools-protocol/) is JSON with a NUL behind each
message; Chromium reads it on descriptor 3 and writes it on descriptor 4.
"""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
COMMAND = "chromium"

PATIENCE = 30.0
"""Seconds after which a test stops waiting; it limits a hang and measures nothing."""

Message = dict[str, Any]


class Browser:
    """A browser with one tab."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._received = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[Message] = []

    def open_tab(self) -> None:
        """Open the tab and enable its events."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> Message:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        message: Message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        assert os.write(self._write, data) == len(data)
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: Message = answer["result"]
        return result

    def close(self) -> None:
        """Stop Chromium."""
        self._session = None
        self.call("Browser.close")

    def wait_for(self, method: str) -> Message:
        """Wait for the next event of a method and return its parameters."""
        while (event := self._receive()).get("method") != method:
            self.events.append(event)
        self.events.append(event)
        parameters: Message = event["params"]
        return parameters

    def _receive(self) -> Message:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, f"no word of {COMMAND} for {PATIENCE} s"
            data = os.read(self._read, 65536)
            assert data, f"{COMMAND} is gone"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message: Message = json.loads(text)
        return message

    def resize(self, width: int, height: int, scale: int = 1) -> None:
        """Set the size of the window in CSS pixels, and how many pixels of a picture each has."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setScrollbarsHidden", hidden=True)

    def prefer(self, scheme: str) -> None:
        """Set the user's preferred colour scheme to `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def visit(self, url: str) -> None:
        """Open *url* and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, or of its promise."""
        options = {"returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save a screenshot of the whole page, or of the part in the window."""
        options = {"format": "png", "captureBeyondViewport": whole}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def requested(self) -> set[str]:
        """Return every URL that the browser requested."""
        sent = (e for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return {event["params"]["request"]["url"] for event in sent}

    def complaints(self) -> list[Message]:
        """Return the console's messages: output of scripts, and refused or missing resources."""
        kinds = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [event["params"] for event in self.events if event.get("method") in kinds]


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Run Chromium with a new *profile*."""
    command = shutil.which(COMMAND)
    assert command, f"{COMMAND} is not installed"
    read, theirs_out = os.pipe()
    theirs_in, write = os.pipe()
    arguments = [command, *FLAGS, f"--user-data-dir={profile}"]
    # Chromium uses descriptors 3 and 4 for its ends of the pipes; the shell moves them there.
    script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", script, "bash", *arguments],
        pass_fds=(theirs_in, theirs_out),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    running = Browser(read, write)
    try:
        running.open_tab()
        yield running
        running.close()
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)
        _end_group(process.pid)


def _end_group(group: int) -> None:
    """Kill Chromium's helpers, which end a moment later than it and become our children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)
