"""How the end of a child process is described in the log."""

import pytest

from supervisor.child import describe


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0 (DONE)"),
        (3, "exit code 3 (NOT_READY)"),
        (77, "exit code 77"),
        (-9, "killed by SIGKILL"),
        (-33, "killed by signal 33"),
        (-35, "killed by signal 35"),
        (-64, "killed by SIGRTMAX"),
    ],
)
def test_each_end_of_a_process_can_be_described(code: int, words: str) -> None:
    """Every exit code and signal has words, also a real-time signal that has no name."""
    assert describe(code) == words
