"""`status --watch` shows the status until Ctrl-C."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import commands
from tests.fakes.exporter import busy, exporter
from tests.fakes.service import COMMAND, PATIENCE, kubelet, service
from tests.process.test_status import GPU, NODE, hostile, leave_url

HEALTHY = "All 2 GPUs are healthy"
COLOURS = re.compile(r"\x1b\[[\d;]*m")


class Reader:
    """Reads what the command prints."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def until(self, text: str) -> str:
        """Wait for *text*; return what was printed up to its end, since the last wait."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._descriptor], [], [], max(left, 0))
            assert ready, f"{text!r} is not in {self.seen!r}"
            self.seen += os.read(self._descriptor, 1 << 16).decode()
        before, found, self.seen = self.seen.partition(text)
        return before + found


@contextlib.contextmanager
def watching(folder: Path, stdout: int, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `status --watch`; it is killed in the end."""
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", f"--runtime-dir={folder}"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(process: "subprocess.Popen[bytes]") -> tuple[int, bytes]:
    """Press Ctrl-C; return the exit code and what is on stderr."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


def test_it_goes_on_when_the_service_restarts(folder: Path) -> None:
    """While the service is away, one line says so; then the status is shown again."""

    async def scenario(out: Reader) -> None:
        async with kubelet(folder) as node:
            async with service(folder, node=NODE) as running:
                await node.until(lambda k: k.healthy(GPU) == 2)
                await running.ready()
                await asyncio.to_thread(start, out)
            await asyncio.to_thread(out.until, "waiting for the service: cannot ")
            async with service(folder, node=NODE):
                await asyncio.to_thread(out.until, HEALTHY)

    def start(out: Reader) -> None:
        started.append(stack.enter_context(watching(folder, write)))
        shown = out.until(HEALTHY)
        shown += out.until(HEALTHY)
        assert "\x1b" not in shown

    started: list[subprocess.Popen[bytes]] = []
    read, write = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read)
        stack.callback(os.close, write)
        asyncio.run(scenario(Reader(read)))
        assert interrupted(started[0]) == (0, b"")


def test_a_terminal(folder: Path) -> None:
    """A terminal is cleared for each look, which fits in it; names command no terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    body = hostile()
    with exporter(lambda _: (200, body, ())) as url, os.fdopen(ours, "rb"):
        leave_url(folder, url)
        with watching(folder, theirs, TERM="xterm") as process:
            os.close(theirs)
            out = Reader(ours)
            looks = [out.until("more lines: enlarge the terminal, or omit --watch\r\n")]
            looks.append(out.until("more lines: enlarge the terminal, or omit --watch\r\n"))
            end = interrupted(process)
    assert end == (0, b"")
    for look in looks:
        assert look.startswith("\x1b[H\x1b[J")
        lines = COLOURS.sub("", look.removeprefix("\x1b[H\x1b[J")).split("\r\n")
        assert len(lines) <= 24
        assert all(line.isprintable() and len(line) <= 80 for line in lines)


def test_nobody_reads_any_more(folder: Path) -> None:
    """The command ends when the other end of its output is closed."""
    read, write = os.pipe()
    with exporter(busy) as url:
        leave_url(folder, url)
        with watching(folder, write) as process:
            os.close(write)
            Reader(read).until("nvidia.com/mig-3g.40gb  1 of 1")
            os.close(read)
            _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in {0, -signal.SIGPIPE}
    assert err == b""


@pytest.mark.parametrize("option", ["--json", "--exit-code"])
def test_options_that_do_not_go_together(folder: Path, option: str) -> None:
    """--watch has neither a JSON form nor an exit code."""
    done = commands.run("status", "--watch", option, f"--runtime-dir={folder}")
    expected = "cannot use --watch with --json or --exit-code: leave one out\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_no_service_to_watch(folder: Path) -> None:
    """Without a service, the command ends with the same error as `status`."""
    with watching(folder, subprocess.DEVNULL) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.startswith(b"cannot find the service in ")
