"""When a process listens to the tree of the MPS daemons."""

import time
from pathlib import Path
from typing import Any

import pytest

from proto import mps_listener
from proto.messages import MpsState
from proto.mps import MpsShare
from proto.mps_listener import FIRST_WORD, MpsListener

WANTED = {"GPU-1": MpsShare(1000)}


class Subscriber:
    """A subscriber that only knows whether it is switched on."""

    def __init__(self, context: object, path: str) -> None:
        del context, path
        self.on = False

    def switch(self, *, on: bool) -> None:
        """Note whether it is on; each call changes it."""
        assert on is not self.on
        self.on = on


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps_listener, "MpsSubscriber", Subscriber)


def listener(path: Path | None) -> MpsListener:
    """Return a listener that tells nobody."""
    nobody: Any = None
    return MpsListener(nobody, str(path or ""), lambda: None)


def test_it_listens_while_it_must(tmp_path: Path) -> None:
    """A process listens while its plan has devices of MPS, and while the tree's socket exists."""
    path = tmp_path / "mps.ipc"
    made = listener(path)
    assert made.word is None
    made.want(WANTED)
    assert made.word is not None
    made.want({})
    assert made.word is None
    path.touch()
    made.look()
    assert made.word is not None
    path.unlink()
    made.look()
    assert made.word is None


def test_without_a_path_it_never_listens() -> None:
    """A process that has nothing to do with MPS holds nothing back."""
    made = listener(None)
    made.want(WANTED)
    assert made.word is None
    assert made.reasons(time.monotonic(), 10.0) == {}


def test_the_first_word_is_waited_for(tmp_path: Path) -> None:
    """A first list waits for the first word, but not for long, and not without devices of MPS."""
    made = listener(tmp_path / "mps.ipc")
    now = time.monotonic()
    assert not made.settled(now)
    made.want({})
    assert made.settled(now)
    made.want(WANTED)
    assert not made.settled(now)
    assert made.settled(now + FIRST_WORD + 1)
    assert made.reasons(now, 10.0).keys() == WANTED.keys()
    assert made.word is not None
    made.word = made.word.after(MpsState(epoch=1, sequence=1), now)
    assert made.settled(now)
    assert made.silent(now + 11, 10.0)
    assert not made.silent(now, 10.0)
