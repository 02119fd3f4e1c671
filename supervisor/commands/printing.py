"""How commands print: no name may command the terminal, and the reader may have seen enough."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator

from proto.texts import printable


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """End by SIGPIPE, without a word, when nobody reads what is printed here, as in `| head`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for characters that an old locale lacks
    # Only meanwhile: elsewhere a connection whose other end is gone is an error to tell of.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        # What is still in the buffer, too: at the interpreter's exit it would be too late.
        print(end="", flush=True)  # noqa: T201 - the rest of the result
        signal.signal(signal.SIGPIPE, before)


def say(*lines: str) -> None:
    """Print the lines of a result to stdout."""
    with printing():
        print("\n".join(map(printable, lines)))  # noqa: T201 - the result


def complain(text: str) -> None:
    """Print one line to stderr."""
    print(printable(text), file=sys.stderr)  # noqa: T201 - a command has no log
