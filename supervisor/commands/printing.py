"""How commands print: no name may command the terminal, and the reader may have seen enough."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator

from proto.texts import printable

STDOUT = 1


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """End by SIGPIPE, without a word, when nobody reads what is printed here, as in `| head`.

    End with one line and exit code 1 if it cannot be written, as to a file on a full disk.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for characters that an old locale lacks
    # Only meanwhile: elsewhere a connection whose other end is gone is an error to tell of.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        try:
            yield
        finally:
            # What is still in the buffer, too: at the interpreter's exit it would be too late.
            print(end="", flush=True)  # noqa: T201 - the rest of the result
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # else the exit would try once more
        complain(f"cannot print: {error.strerror}; make room, or print elsewhere")
        raise SystemExit(1) from error
    finally:
        signal.signal(signal.SIGPIPE, before)


def say(*lines: str) -> None:
    """Print the lines of a result to stdout."""
    with printing():
        print("\n".join(map(printable, lines)))  # noqa: T201 - the result


def complain(text: str) -> None:
    """Print one line to stderr."""
    print(printable(text), file=sys.stderr)  # noqa: T201 - a command has no log
