"""A program that runs beside a check and talks by lines; needs only the standard library."""

import os
import select
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds after which a check stops waiting: a guard for hangs."""


class Program:
    """A running program; it ends when its stdin is closed."""

    def __init__(self, command: Iterable[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._read = b""

    def line(self, patience: float = PATIENCE) -> str | None:
        """Return the next line that it prints; "" at its end, None if none comes in time."""
        assert self.process.stdout is not None
        printed = select.poll()  # select takes no descriptor above 1023
        printed.register(self.process.stdout, select.POLLIN)
        end = time.monotonic() + patience
        while b"\n" not in self._read:
            left = max(end - time.monotonic(), 0)
            if not printed.poll(left * 1000):
                return None
            if not (some := os.read(self.process.stdout.fileno(), 4096)):
                return ""
            self._read += some
        line, _, self._read = self._read.partition(b"\n")
        return line.decode().strip()

    def tell(self, line: str = "") -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def end(self, *, kill: bool = False) -> int:
        """Close its stdin or kill it; wait for its end, and return its exit code."""
        if kill:
            self.process.kill()
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.wait(PATIENCE)
