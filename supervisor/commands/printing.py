"""How a command prints its result, to a reader that may have seen enough."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """End by SIGPIPE, without a word, when nobody reads what is printed here, as in `| head`."""
    # Only meanwhile: elsewhere a connection whose other end is gone is an error to tell of.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        # What is still in the buffer, too: at the interpreter's exit it would be too late.
        print(end="", flush=True)  # noqa: T201 - the rest of the result
        signal.signal(signal.SIGPIPE, before)
