"""Processes that this one inherits from others."""

import os

from supervisor import strangers


def ended() -> int:
    """Return the PID of a child that has ended and is not reaped."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_a_stranger_is_reaped() -> None:
    """A process that is none of ours is reaped."""
    pid = ended()
    strangers.reap(())
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110


def test_our_own_process_keeps_its_exit_code() -> None:
    """One of ours is left to the loop."""
    pid = ended()
    strangers.reap({pid})
    assert os.waitpid(pid, 0)[0] == pid


def test_without_children_nothing_happens() -> None:
    """Nothing is raised if there is no process to reap."""
    strangers.reap(())
