"""Threads for driver calls."""

import select
import threading

import pytest

from health import lane
from health.lane import Done, Lane, Mailbox
from health.nvml import Nvml

PATIENCE = 10.0


def reports(mailbox: Mailbox, count: int) -> list[object]:
    """Wait for so many reports, and return their results."""
    found: list[object] = []
    while len(found) < count:
        assert select.select([mailbox], [], [], PATIENCE)[0], f"only {found}"
        found += [done.result for done in mailbox.take() if isinstance(done, Done)]
    return found


def test_jobs_in_turn_do_not_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one runs, the others wait; each runs once."""
    monkeypatch.setattr(lane, "TURN", PATIENCE)
    mailbox = Mailbox()
    running: list[int] = []

    def job(_: Nvml) -> int:
        running.append(1)
        found = len(running)
        threading.Event().wait(0.001)  # lets the other threads go on, as a driver call does
        running.pop()
        return found

    for place in range(8):
        Lane(f"gpu {place}", Nvml(), mailbox).give(job, in_turn=True)
    assert reports(mailbox, 8) == [1] * 8


def test_a_job_that_hangs_takes_no_turn_of_others() -> None:
    """The others wait a moment for their turn, and then run beside it."""
    mailbox = Mailbox()
    end, began = threading.Event(), threading.Event()

    def hang(_: Nvml) -> str:
        began.set()
        assert end.wait(PATIENCE)
        return "hung"

    Lane("gpu 0", Nvml(), mailbox).give(hang, in_turn=True)
    assert began.wait(PATIENCE)
    others = [Lane(f"gpu {place}", Nvml(), mailbox) for place in (1, 2)]
    for other in others:
        other.give(lambda _: "done", in_turn=True)
    assert reports(mailbox, 2) == ["done", "done"]
    end.set()
    assert reports(mailbox, 1) == ["hung"]
    others[0].give(lambda _: "again", in_turn=True)
    assert reports(mailbox, 1) == ["again"]
