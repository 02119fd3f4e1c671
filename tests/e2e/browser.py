"""Chromium without a window, spoken to over its debugging pipe: what it shows, asks for and says.

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
"""Seconds after which a test gives up waiting: a guard, never a measure."""

Message = dict[str, Any]


class Browser:
    """One tab."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._received = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[Message] = []

    def open_tab(self) -> None:
        """Open the tab and follow what happens in it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> Message:
        """Call *method* and return its result."""
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
        """End Chromium."""
        self._session = None
        self.call("Browser.close")

    def wait_for(self, method: str) -> Message:
        """Wait for the next event called *method* and return what it says."""
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

    def resize(self, width: int, height: int) -> None:
        """Let the window be this large, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setScrollbarsHidden", hidden=True)

    def prefer(self, scheme: str) -> None:
        """Let the user prefer `light` or `dark`."""
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
        """Take a picture of the whole page, or of what is in the window."""
        options = {"format": "png", "captureBeyondViewport": whole}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def requested(self) -> set[str]:
        """Return every URL that was asked for."""
        sent = (e for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return {event["params"]["request"]["url"] for event in sent}

    def complaints(self) -> list[Message]:
        """Return what the console shows: words of scripts, what is refused or not found."""
        kinds = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [event["params"] for event in self.events if event.get("method") in kinds]


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Run Chromium with a fresh *profile*."""
    command = shutil.which(COMMAND)
    assert command, f"{COMMAND} is not installed"
    read, theirs_out = os.pipe()
    theirs_in, write = os.pipe()
    arguments = [command, *FLAGS, f"--user-data-dir={profile}"]
    # Chromium wants its ends of the pipes as descriptors 3 and 4; the shell moves them there.
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
    """End Chromium's helpers, which outlive it by a moment and then are this process's children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)
