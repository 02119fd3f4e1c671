"""What a keeper of an MPS daemon does next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proto.mps import STOPPED, MpsClient, MpsShare, Phase, ServerStatus
from supervisor.mps.commands import ClientLimits, Readings
from supervisor.mps.decide import (
    adopted,
    decide,
    limited,
    maintained,
    not_started,
    ordered,
    reads_limits,
    started,
)
from supervisor.mps.kept import DaemonSeen, Decision, Do, Kept, Leaving, Timing
from supervisor.mps.serving import GRACE
from supervisor.mps.steps import RESTARTS

TIMING = Timing(poll=5.0, hang=15.0)
SHARE = MpsShare(memory_mib=20000, threads=25)
OTHER = MpsShare(memory_mib=30000, threads=50)
RIGHT, WRONG = Readings("25.0", "19G"), Readings("100.0", "")
PID, SERVER = 100, 200
CLIENTS = (MpsClient(300, "python"),)
NOW = 1000.0

READY = Kept(
    share=SHARE,
    pid=PID,
    has=ClientLimits(20000, 25),
    began=900.0,
    heard=995.0,
    checked=(PID, SERVER),
    read_at=990.0,
    server=SERVER,
    asked=901.0,
    ready_since=902.0,
    phase=Phase.READY,
)
QUITTING = replace(READY, phase=Phase.DRAINING, quitting=999.0)
WELL = DaemonSeen(pid=PID, server=SERVER, status=ServerStatus.ACTIVE)
BUSY = replace(WELL, clients=CLIENTS)
DEAF = DaemonSeen(pid=PID, trouble="ps was not answered within 5 s")


def after(kept: Kept, seen: DaemonSeen, now: float = NOW) -> Decision:
    """Return the decision."""
    return decide(kept, seen, now, TIMING)


def go_on(kept: Kept, *looks: DaemonSeen, every: float = 1.0) -> list[Decision]:
    """Return the decisions after looks at regular times."""
    found = []
    for number, seen in enumerate(looks):
        found.append(after(kept, seen, NOW + number * every))
        kept = found[-1].kept
    return found


IDLE = Kept(SHARE, quiesced=True)


@pytest.mark.parametrize(
    ("kept", "seen", "do", "detail"),
    [
        (READY, WELL, Do.QUIT, "the node is under maintenance"),
        (READY, BUSY, None, "clients: 300 (python)"),
        (READY, replace(DEAF, clients=CLIENTS), None, "clients: 300 (python)"),
        (READY, DEAF, Do.KILL, DEAF.trouble),
        (QUITTING, DaemonSeen(), Do.REST, "the node is under maintenance"),
        (IDLE, DaemonSeen(), Do.REST, "the node is under maintenance"),
        (replace(IDLE, rests=True), DaemonSeen(), None, STOPPED),
    ],
)
def test_during_maintenance(kept: Kept, seen: DaemonSeen, do: Do | None, detail: str) -> None:
    """A daemon ends as soon as it has no clients; then the compute mode is put back, once."""
    decision = after(maintained(kept, quiesced=True), seen)
    assert (decision.do, decision.kept.detail[-len(detail) :]) == (do, detail)
    assert decision.kept.phase is not Phase.READY
    again = after(maintained(replace(decision.kept, pid=0), quiesced=False), DaemonSeen())
    assert again.do is Do.START


def test_maintenance_that_ends_early_ends_no_daemon() -> None:
    """A daemon that waited for its clients is ready again, with these clients."""
    waiting = after(maintained(READY, quiesced=True), BUSY).kept
    assert waiting.phase is Phase.DRAINING
    again = after(maintained(waiting, quiesced=False), BUSY)
    assert (again.kept.phase, again.do, again.kept.pid) == (Phase.READY, None, PID)


def test_orders_count_that_come_while_a_daemon_starts() -> None:
    """The new limits are those that are wanted; a daemon for the former ones is replaced."""
    before = Kept(SHARE)
    meanwhile = maintained(limited(before, OTHER), quiesced=True)
    found = ordered(started(before, PID, NOW), before, meanwhile)
    assert (found.pid, found.share, found.quiesced) == (PID, OTHER, True)
    step = after(maintained(found, quiesced=False), DaemonSeen(pid=PID))
    assert step.do is Do.QUIT
    assert ordered(started(before, PID, NOW), before, before) == started(before, PID, NOW)


def test_from_nothing_to_ready() -> None:
    """A daemon gets its limits before a server, and its device is ready when both are right."""
    kept = Kept(SHARE)
    first = after(kept, DaemonSeen())
    assert first.do is Do.START
    kept = started(first.kept, PID, NOW)
    answers = [
        DaemonSeen(pid=PID, trouble="Cannot find MPS control daemon process"),
        DaemonSeen(pid=PID),
        DaemonSeen(pid=PID, defaults=RIGHT),
        DaemonSeen(pid=PID, server=SERVER, status=ServerStatus.INITIALIZING, defaults=RIGHT),
        replace(WELL, defaults=RIGHT, of_server=RIGHT),
    ]
    found = go_on(kept, *answers, every=0.1)
    assert [step.do for step in found] == [None, Do.SEND_LIMITS, Do.START_SERVER, None, None]
    assert [step.kept.phase for step in found] == [*4 * [Phase.STARTING], Phase.READY]
    assert found[-1].wait == TIMING.poll
    assert found[-1].kept.detail == ""


CASES = {
    "well": (READY, WELL, Phase.READY, None, ""),
    "busy": (READY, BUSY, Phase.READY, None, ""),
    "no server, for the first time": (READY, DaemonSeen(pid=PID), Phase.READY, Do.START_SERVER, ""),
    "a client has ended, another works": (
        READY,
        replace(BUSY, departed=True),
        Phase.READY,
        None,
        "",
    ),
    "the last client has ended": (
        READY,
        replace(WELL, departed=True),
        Phase.READY,
        Do.SHUT_SERVER,
        "",
    ),
    "a client came when its server was told to end": (
        replace(READY, closing=SERVER),
        BUSY,
        Phase.DRAINING,
        None,
        "300 (python)",
    ),
    "the daemon died": (
        READY,
        DaemonSeen(end="the daemon was killed by SIGKILL"),
        Phase.STARTING,
        Do.START,
        "the daemon was killed by SIGKILL",
    ),
    "no answer": (READY, DEAF, Phase.FAILED, None, DEAF.trouble),
    "no answer for long": (replace(READY, heard=984.0), DEAF, Phase.FAILED, Do.KILL, DEAF.trouble),
    "no answer for long, with clients": (
        replace(READY, heard=984.0),
        replace(DEAF, clients=CLIENTS),
        Phase.FAILED,
        None,
        "300 (python)",
    ),
    "no answer for long, with clients, in a hurry": (
        replace(READY, heard=984.0, hurried=True),
        replace(DEAF, clients=CLIENTS),
        Phase.FAILED,
        Do.KILL,
        DEAF.trouble,
    ),
    "fault": (
        READY,
        replace(BUSY, status=ServerStatus.FAULT),
        Phase.FAULT,
        None,
        "300 (python)",
    ),
    "fault, in a hurry": (
        replace(READY, hurried=True),
        replace(BUSY, status=ServerStatus.FAULT),
        Phase.FAULT,
        Do.QUIT_NOW,
        "fault",
    ),
    "fault that stays without clients": (
        replace(READY, odd=980.0),
        replace(WELL, status=ServerStatus.FAULT),
        Phase.FAILED,
        Do.KILL,
        "for more than 15 s",
    ),
    "initializing for too long": (
        replace(READY, odd=980.0),
        replace(WELL, status=ServerStatus.INITIALIZING),
        Phase.FAILED,
        Do.KILL,
        "INITIALIZING, for more than 15 s",
    ),
    "wrong limits": (
        READY,
        replace(WELL, defaults=WRONG, of_server=RIGHT),
        Phase.FAILED,
        Do.QUIT,
        "100.0",
    ),
    "wrong limits, with clients": (
        READY,
        replace(BUSY, defaults=WRONG, of_server=RIGHT),
        Phase.FAILED,
        None,
        "300 (python)",
    ),
    "wrong limits of the server": (
        READY,
        replace(WELL, defaults=RIGHT, of_server=WRONG),
        Phase.STARTING,
        Do.SHUT_SERVER,
        "other limits",
    ),
    "wrong limits of a server with clients": (
        READY,
        replace(BUSY, defaults=RIGHT, of_server=WRONG),
        Phase.FAILED,
        None,
        "300 (python)",
    ),
    "other limits are wanted": (limited(READY, OTHER), WELL, Phase.DRAINING, Do.QUIT, "limits"),
    "other limits are wanted, with clients": (
        limited(READY, OTHER),
        BUSY,
        Phase.DRAINING,
        None,
        "300 (python)",
    ),
    "other limits are wanted now": (
        replace(limited(READY, OTHER), hurried=True),
        BUSY,
        Phase.DRAINING,
        Do.QUIT_NOW,
        "limits",
    ),
    "the share is another, its limits are none": (
        replace(limited(READY, MpsShare(1, 2, single=False)), has=ClientLimits()),
        WELL,
        Phase.READY,
        None,
        "",
    ),
    "drain": (replace(READY, ending=Leaving.DRAIN), WELL, Phase.DRAINING, Do.QUIT, "no longer"),
    "drain with clients": (
        replace(READY, ending=Leaving.DRAIN),
        BUSY,
        Phase.DRAINING,
        None,
        "300 (python)",
    ),
    "stop": (replace(READY, ending=Leaving.NOW), BUSY, Phase.DRAINING, Do.QUIT_NOW, ""),
    "stop without a daemon": (
        replace(Kept(SHARE), ending=Leaving.NOW),
        DaemonSeen(),
        None,
        Do.END,
        "",
    ),
    "stop while it quits": (
        replace(QUITTING, ending=Leaving.NOW),
        BUSY,
        None,
        Do.QUIT_NOW,
        "",
    ),
    "it does not quit": (
        replace(QUITTING, ending=Leaving.NOW, quitting=996.0, forced=True),
        DEAF,
        None,
        Do.KILL,
        "",
    ),
    "it waits for a client that came at the last moment": (
        replace(QUITTING, quitting=900.0),
        BUSY,
        None,
        None,
        "",
    ),
    "it hangs while it quits": (replace(QUITTING, quitting=900.0), DEAF, None, Do.KILL, ""),
    "it has quit": (
        limited(QUITTING, OTHER),
        DaemonSeen(end="the daemon ended with exit code 0"),
        Phase.STARTING,
        Do.START,
        "",
    ),
    "it has quit for good": (
        replace(QUITTING, ending=Leaving.DRAIN),
        DaemonSeen(end="the daemon ended with exit code 0"),
        None,
        Do.END,
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_done(case: str) -> None:
    """Each thing that is seen leads to one phase, one action and one detail."""
    kept, seen, phase, do, detail = CASES[case]
    found = after(kept, seen)
    assert found.do is do
    assert found.kept.phase is (phase or kept.phase)
    assert detail in found.kept.detail


def test_a_missing_server_is_excused_for_a_moment() -> None:
    """A device stays ready while its server is replaced, but not for long."""
    gone = DaemonSeen(pid=PID)
    found = go_on(READY, *4 * [gone], every=GRACE / 2)
    phases = [step.kept.phase for step in found]
    assert phases == [Phase.READY, Phase.READY, Phase.STARTING, Phase.FAILED]


def test_only_the_first_failures_are_answered_at_once() -> None:
    """A daemon that ends again and again is started with growing pauses, and is failed."""
    kept, waits, phases = Kept(SHARE), [], []
    for number in range(5):
        kept = started(after(kept, DaemonSeen(), NOW + 100 * number).kept, PID, NOW + 100 * number)
        decision = after(kept, DaemonSeen(end="exit code 1"), NOW + 100 * number)
        kept = decision.kept
        waits.append(decision.wait)
        phases.append(kept.phase)
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8])
    assert phases == [Phase.STARTING, *4 * [Phase.FAILED]]
    assert kept.detail == "exit code 1, at least 3 times in a row"
    assert kept.restarts == 5


def test_a_stable_run_ends_the_count() -> None:
    """A daemon that was ready for a minute fails for the first time."""
    kept = replace(READY, failures=7, ready_since=NOW - RESTARTS.stable)
    assert after(kept, DaemonSeen(end="x")).kept.failures == 1
    kept = replace(READY, failures=7, ready_since=NOW - RESTARTS.stable + 1)
    assert after(kept, DaemonSeen(end="x")).kept.failures == 8


def test_a_refusal_is_a_failure() -> None:
    """What prevents a start is told at once, and tried again."""
    kept = not_started(Kept(SHARE), "cannot find it", NOW)
    assert (kept.phase, kept.detail) == (Phase.FAILED, "cannot find it")
    assert after(kept, DaemonSeen()).do is Do.START
    again = not_started(kept, "cannot find it", NOW)
    found = after(again, DaemonSeen())
    assert found.do is None
    assert found.wait == pytest.approx(0.1)
    assert found.kept.phase is Phase.FAILED


def test_an_adopted_daemon_keeps_its_limits() -> None:
    """One that was started for the same limits is read and kept; another one is replaced."""
    same = adopted(Kept(SHARE), PID, ClientLimits(20000, 25), NOW)
    assert reads_limits(same, SERVER, NOW)
    found = after(same, replace(BUSY, defaults=RIGHT, of_server=RIGHT))
    assert (found.kept.phase, found.do) == (Phase.READY, None)
    for has in (ClientLimits(20001, 25), None):
        other = adopted(Kept(SHARE), PID, has, NOW)
        seen = replace(WELL, defaults=RIGHT, of_server=RIGHT)
        assert after(other, seen).do is Do.QUIT
        assert after(other, replace(seen, clients=CLIENTS)).kept.phase is Phase.DRAINING


def test_when_limits_are_read() -> None:
    """They are read for each daemon and server, and then now and then."""
    assert not reads_limits(READY, SERVER, NOW)
    assert reads_limits(READY, SERVER + 1, NOW)
    assert reads_limits(READY, SERVER, NOW + 60)
    assert not reads_limits(started(READY, PID, NOW), 0, NOW)  # nothing was sent yet


times = st.floats(0, 2 * NOW)
maybe_times = st.none() | times
statuses = st.none() | st.sampled_from(ServerStatus)
some_clients = st.sampled_from([(), CLIENTS])
readings = st.sampled_from([None, RIGHT, WRONG])
seens = st.builds(
    DaemonSeen,
    pid=st.sampled_from([0, PID]),
    trouble=st.sampled_from(["", "trouble"]),
    server=st.sampled_from([0, SERVER]),
    status=statuses,
    clients=some_clients,
    defaults=readings,
    of_server=readings,
    departed=st.booleans(),
)
kepts = st.builds(
    Kept,
    share=st.sampled_from([SHARE, OTHER]),
    ending=st.sampled_from(Leaving),
    hurried=st.booleans(),
    pid=st.sampled_from([0, PID]),
    has=st.sampled_from([None, ClientLimits(20000, 25), ClientLimits()]),
    began=times,
    heard=times,
    wrong=st.sampled_from(["", "wrong"]),
    checked=st.sampled_from([None, (PID, SERVER)]),
    read_at=maybe_times,
    server=st.sampled_from([0, SERVER]),
    attempts=st.integers(0, 5),
    asked=times,
    lost=maybe_times,
    odd=maybe_times,
    closing=st.sampled_from([0, SERVER]),
    clients=some_clients,
    quitting=maybe_times,
    forced=st.booleans(),
    failures=st.integers(0, 100),
    failed_at=times,
    ready_since=maybe_times,
    phase=st.sampled_from(Phase),
)


@given(kepts, seens)
def test_clients_are_left_alone(kept: Kept, seen: DaemonSeen) -> None:
    """Only an order, or a daemon that already ends by force, costs clients their server."""
    ending = Leaving.DRAIN if kept.ending is Leaving.NOW else kept.ending
    found = after(replace(kept, hurried=False, forced=False, ending=ending), seen)
    if seen.pid and seen.clients:
        assert found.do in {None, Do.SEND_LIMITS, Do.START_SERVER}


@given(kepts, seens)
def test_ready_means_verified(kept: Kept, seen: DaemonSeen) -> None:
    """A device is ready with an active server whose limits were read, or a moment after that."""
    found = after(kept, seen)
    if found.kept.phase is Phase.READY and kept.phase is not Phase.READY:
        assert seen.status is ServerStatus.ACTIVE
        assert found.kept.checked == (seen.pid, seen.server)
        assert found.kept.has == found.kept.wanted
        assert not seen.trouble
    if found.kept.phase is Phase.READY:
        assert found.kept.ending is Leaving.NONE


@given(kepts, seens)
def test_time_goes_on(kept: Kept, seen: DaemonSeen) -> None:
    """A decision without an action waits, so that the keeper does not spin."""
    found = after(kept, seen)
    assert found.wait > 0 or found.do is not None


@given(kepts, seens)
def test_there_is_one_daemon(kept: Kept, seen: DaemonSeen) -> None:
    """A daemon is started only when there is none, and never by a keeper that ends."""
    found = after(kept, seen)
    if found.do is Do.START:
        assert not seen.pid
        assert kept.ending is Leaving.NONE
    if found.do is Do.END:
        assert not seen.pid
        assert kept.ending is not Leaving.NONE
    if found.do not in {None, Do.START, Do.END}:
        assert seen.pid


def test_new_limits_hold_a_device_back_at_once() -> None:
    """A device is not told as ready with limits that its daemon does not have yet."""
    assert limited(READY, OTHER).phase is Phase.DRAINING
    assert limited(READY, SHARE).phase is Phase.READY
