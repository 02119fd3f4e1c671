"""`status --watch`: print the status again and again, until Ctrl-C."""

import contextlib
import io
import select
import sys
from pathlib import Path

from rich.console import Console

from proto.control import ExitCode
from supervisor.commands.ask import AskError
from supervisor.commands.printing import printing
from supervisor.commands.show_status import newest, show
from supervisor.commands.tables import text

EVERY = 2.0
"""Seconds between two looks."""

CLEAR = "\x1b[H\x1b[J"
"""Go to the upper left corner, and clear from there on."""


def main(runtime_folder: Path) -> int:
    """Show the status of the service until Ctrl-C; return the exit code.

    Raises AskError only for the first look: later, the service may be restarting.
    """
    with contextlib.suppress(KeyboardInterrupt):
        status = newest(runtime_folder)
        screen, canvas = _screen()
        show(status, canvas)
        while True:
            _draw(screen, canvas)
            if _wait():
                break
            screen, canvas = _screen()
            _look(runtime_folder, canvas)
    return ExitCode.DONE


def _look(runtime_folder: Path, canvas: Console) -> None:
    try:
        status = newest(runtime_folder)
    except AskError as error:
        canvas.print(text(f"waiting for the service: {error}"))
    else:
        show(status, canvas)


def _wait() -> bool:
    """Wait until the next look; return whether nobody reads what is printed any more."""
    poll = select.poll()
    if sys.stdout:  # None: it was closed from the start
        poll.register(sys.stdout, 0)  # tells only of errors and of an end that is closed
    return bool(poll.poll(EVERY * 1000))


def _screen() -> tuple[Console, Console]:
    """Return stdout with its present size, and a canvas of this size to draw on."""
    screen = Console()
    canvas = Console(
        file=io.StringIO(),
        force_terminal=screen.is_terminal,
        width=screen.width,
        highlight=False,
        emoji=False,
        markup=False,
    )
    return screen, canvas


def _draw(screen: Console, canvas: Console) -> None:
    """Write what is on the canvas at once, so that nothing flickers."""
    drawn = canvas.file.getvalue() if isinstance(canvas.file, io.StringIO) else ""
    if screen.is_terminal and not screen.is_dumb_terminal:
        drawn = CLEAR + fitting(drawn, screen.height)
    else:
        drawn += "\n"
    with printing():
        print(drawn, end="")  # noqa: T201 - the result


def fitting(drawn: str, height: int) -> str:
    """Return the lines that fit into *height* lines, and how many more there are."""
    lines = drawn.split("\n")
    if len(lines) <= height:
        return drawn
    kept = lines[: max(height - 2, 1)]
    missing = len(lines) - 1 - len(kept)
    return "\n".join((*kept, f"... {missing} more lines: enlarge the terminal, or omit --watch\n"))
