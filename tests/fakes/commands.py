"""Commands that tests run to their end."""

import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping

from tests.fakes import forked
from tests.fakes.forked import SERVICE
from tests.fakes.service import PATIENCE

Done = subprocess.CompletedProcess[str]


def run(
    *words: str,
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
    module: str = SERVICE,
    exec_because: str = "",
) -> Done:
    """Run `python -m MODULE WORDS...`, with these variables more in its environment.

    What it prints is in the result, unless it prints to a descriptor *stdout*. Like the service
    (tests/fakes/service.py) it is forked, or else executed.
    """
    whole = {**os.environ, **(environment or {})}
    parent = None if exec_because else forked.parent(whole)
    if parent is None:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            env=whole,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as its:
        (out, to), (errors, error) = (_pipe(ours, its) for _ in range(2))
        descriptors = [0, to if stdout == subprocess.PIPE else stdout, error]
        process = ours.enter_context(forked.Script(parent.fork(words, whole, descriptors, module)))
        its.close()
        said = _read(out, errors)
        return Done(words, process.wait(PATIENCE), *said)


def _pipe(ours: contextlib.ExitStack, its: contextlib.ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    ours.callback(os.close, reader)
    its.callback(os.close, writer)
    return reader, writer


def _read(*descriptors: int) -> list[str]:
    """Return what comes from each of the pipes, when nobody writes to them any more."""
    found = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as open_ones:
        for descriptor in descriptors:
            open_ones.register(descriptor, selectors.EVENT_READ)
        while open_ones.get_map():
            ready = open_ones.select(PATIENCE)
            assert ready, f"the command neither prints nor ends; it has printed {found}"
            for key, _ in ready:
                part = os.read(key.fd, 1 << 16)
                found[key.fd] += part
                if not part:
                    open_ones.unregister(key.fd)
    return [text.decode() for text in found.values()]
