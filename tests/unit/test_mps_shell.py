"""What a look at an MPS daemon finds, by the answers of its control program."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from proto.mps import MpsShare, ServerStatus
from proto.running import Result, Runner
from supervisor.mps.commands import ClientLimits, Readings
from supervisor.mps.kept import DaemonSeen, Kept
from supervisor.mps.shell import Shell

UUID = "GPU-0"
SERVER = 41
KEPT = Kept(MpsShare(4096, 25), pid=7, has=ClientLimits(4096, 25))

ANSWERS = {
    "get_server_list": f"{SERVER}\n",
    f"get_server_status {SERVER}": "ACTIVE\n",
    "ps": "",
    "get_default_active_thread_percentage": "25.0\n",
    f"get_default_device_pinned_mem_limit {UUID}": "4G\n",
    f"get_active_thread_percentage {SERVER}": "25.0\n",
    f"get_device_pinned_mem_limit {SERVER} {UUID}": "4G\n",
}


class AnsweringRunner(Runner):
    """Runs nothing: it knows the answers."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__()
        self._answers = answers
        self.asked: list[str] = []

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        limit: float,
        said: str = "",
    ) -> Result:
        """Return the answer to what is said."""
        del command, environment, limit
        self.asked.append(said.strip())
        return Result(0, self._answers[said.strip()])


def look(answers: Mapping[str, str] = ANSWERS, kept: Kept = KEPT) -> DaemonSeen:
    """Return what a look finds with these answers."""
    return look_with(AnsweringRunner(answers), kept)


def look_with(runner: Runner, kept: Kept = KEPT) -> DaemonSeen:
    """Return what a look finds that *runner* answers."""
    return asyncio.run(Shell(runner, UUID, 1.0).look(kept, frozenset(), now=0.0))


def test_a_look_at_a_daemon_that_is_well() -> None:
    """Server, status and both kinds of limits are found."""
    found = look()
    assert (found.server, found.status, found.trouble) == (SERVER, ServerStatus.ACTIVE, "")
    assert found.defaults == found.of_server == Readings("25.0", "4G")


def test_clients_are_looked_for_last() -> None:
    """What is done next may not be undone if a client has come meanwhile."""
    runner = AnsweringRunner(ANSWERS)
    look_with(runner)
    assert (runner.asked[-1], len(runner.asked)) == ("ps", len(ANSWERS))


GONE = f"Server {SERVER} not found\n"


@pytest.mark.parametrize(
    "missing",
    [
        (f"get_active_thread_percentage {SERVER}", f"get_device_pinned_mem_limit {SERVER} {UUID}"),
        (f"get_device_pinned_mem_limit {SERVER} {UUID}",),
    ],
)
def test_a_server_that_dies_during_a_look_has_no_wrong_limit(missing: tuple[str, ...]) -> None:
    """That the daemon knows no such server is no limit: nothing was read of it."""
    found = look({**ANSWERS, **dict.fromkeys(missing, GONE)})
    assert found.of_server is None
    assert (found.trouble, found.defaults) == ("", Readings("25.0", "4G"))
