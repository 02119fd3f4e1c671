"""What the log lines of an MPS daemon and its servers mean, and which of them people get to see.

The daemon logs each command and its answer, so most lines are about the keeper's own questions.
Every client can write to the pipe that the log comes through. So a line may be a reason to look at
the daemon, or to replace an idle server, but it never says that something is well or broken.
"""

import enum
import re

import msgspec
from msgspec.structs import replace

LINE = re.compile(r"\[[^\]]*? (Control|Server|Other) +(\d+)\] ?(.*)")

ROUTINE = re.compile(
    r"Accepting connection\.\.\.|NEW UI|UI closed|User did not send valid credentials|"
    r"Cmd:(get_server_list|get_server_status|ps|get_default_|get_active_thread|get_device_pinned).*"
)
"""What the daemon logs when a keeper asks, or a client tries whether there is a daemon."""

ASKED = re.compile(
    r"Cmd:(get_server_list|get_server_status|ps\b|get_default_|get_active_|get_device_p)"
)

EVENT = re.compile(r"NEW |Server \d+ (exited|has)|Starting |MPS |Try |Control |Force |Exit |quit ")
"""What else the daemon may log between a question of a keeper and its answer."""

DEPARTED = re.compile(r"Client process \d+ disconnected|Client \{.*\} exiting")

TELLING = re.compile(r"fatal|NEW SERVER \d+: Ready|Server \d+ exited|failed to start")
"""What changes the state of a server, besides the end of a client."""


class Author(enum.StrEnum):
    """Author wrote a line."""

    CONTROL = "Control"
    """The daemon."""
    SERVER = "Server"
    OTHER = "Other"
    """A server that starts, or another program."""
    UNKNOWN = ""
    """The line does not say it."""


class Line(msgspec.Struct, frozen=True):
    """A line of the log."""

    who: Author
    pid: int
    text: str


class Told(msgspec.Struct, frozen=True):
    """What the log has told so far."""

    departed: frozenset[int] = frozenset()
    """The servers of which a client has ended."""
    answering: bool = False
    """Whether the next lines may be the answer to a question of a keeper."""


KEPT = 64
"""Servers that are remembered; those of a daemon with more started long ago."""


def parsed(text: str) -> Line:
    """Return what a line says."""
    found = LINE.match(text)
    if not found:
        return Line(Author.UNKNOWN, 0, text)
    return Line(Author(found[1]), int(found[2]), found[3])


def after(told: Told, line: Line) -> Told:
    """Return what the log has told after one more line."""
    if line.who is Author.SERVER and DEPARTED.match(line.text):
        others = sorted(told.departed - {line.pid})[-KEPT:]
        return replace(told, departed=frozenset((*others, line.pid)))
    if line.who is Author.CONTROL:
        if ASKED.match(line.text):
            return replace(told, answering=True)
        if line.text.startswith(("Cmd:", "UI closed")):
            return replace(told, answering=False)
    return told


def shown(told: Told, line: Line) -> bool:
    """Return whether people get to see a line that came after *told*."""
    if not line.text.strip() or ROUTINE.fullmatch(line.text):
        return False
    answer = told.answering and line.who in {Author.CONTROL, Author.UNKNOWN}
    return not answer or EVENT.match(line.text) is not None


def calls(line: Line) -> bool:
    """Return whether the keeper should look at the daemon after this line."""
    if line.who is Author.SERVER and DEPARTED.match(line.text):
        return True
    return TELLING.search(line.text) is not None
