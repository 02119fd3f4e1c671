"""The stand-in for NVML: its events, as nvidia-ml-py receives them."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.nvml_library import GUARD, INITIALISED, Start, hear, tell

LISTENING = INITIALISED + "events = listen(0, 1)\nsay('ready')\n"
XID = 8
NOWHERE = 0xFFFFFFFF


@pytest.fixture
def start(library: Path, tmp_path: Path) -> Iterator[Start]:
    """Start Python on a script, with the stand-in on its library path."""
    with nvml_library.children(library, tmp_path) as begin:
        yield begin


@pytest.fixture
def steering(tmp_path: Path) -> nvml_library.Steering:
    """Return the object that steers the library in the processes of this test."""
    return nvml_library.Steering(tmp_path)


def test_an_xid_reaches_the_wait_at_once(start: Start, steering: nvml_library.Steering) -> None:
    """An Xid ends the wait at once; without a MIG instance in the command, the event names none."""
    child = start(LISTENING + "say(wait(events))\n")
    assert hear(child) == "ready"
    steering.xid(0, 79)
    assert hear(child) == [nvml_library.GPU_UUIDS[0], XID, 79, NOWHERE, NOWHERE]


def test_an_xid_of_an_instance_names_it(start: Start, steering: nvml_library.Steering) -> None:
    """The Xid of a MIG instance comes with its GPU's handle and the instance's ids."""
    child = start(LISTENING + "say(wait(events))\nsay(wait(events))\n")
    assert hear(child) == "ready"
    steering.xid(1, 31, 8, 0)
    assert hear(child) == [nvml_library.GPU_UUIDS[1], XID, 31, 8, 0]
    steering.xid(1, 43, 7)
    assert hear(child) == [nvml_library.GPU_UUIDS[1], XID, 43, 7, NOWHERE]


def test_no_event_is_lost(start: Start, steering: nvml_library.Steering) -> None:
    """Events that arrive while nobody waits are all delivered in order."""
    script = "sys.stdin.readline()\nsay([wait(events)[2] for _ in range(1000)])\n"
    child = start(LISTENING + script)
    assert hear(child) == "ready"
    for code in range(1000):
        steering.xid(code % 2, code)
    tell(child)
    assert hear(child) == list(range(1000))


def test_another_call_takes_no_event_from_the_wait(start: Start) -> None:
    """When another call reads a command first, the event still goes to the waiting thread."""
    child = start(
        LISTENING
        + """
import os
commands = open(os.path.join(os.environ["STANDIN_NVML_DIR"], "commands"), "w", buffering=1)
heard, one_more = [], threading.Semaphore(0)

def hear():
    for _ in range(500):
        heard.append(wait(events)[2])
        one_more.release()

threading.Thread(target=hear, daemon=True).start()
device = gpu(0)
for code in range(500):
    commands.write(f"xid 0 {code}\\n")
    nvmlDeviceGetIndex(device)
    one_more.acquire()
say(heard)
"""
    )
    assert hear(child) == "ready"
    assert hear(child) == list(range(500))


def test_a_wait_without_events_times_out(start: Start, steering: nvml_library.Steering) -> None:
    """A wait times out when there is no event, or only events of GPUs that are not in its set."""
    child = start(
        INITIALISED + "say(wait(listen(0, 1), 0))\nsys.stdin.readline()\nsay(wait(listen(0), 1))\n"
    )
    assert hear(child) == "error 10"
    steering.xid(1, 79)
    tell(child)
    assert hear(child) == "error 10"


def test_a_lost_gpu_fails_every_call(start: Start, steering: nvml_library.Steering) -> None:
    """After a loss, calls on the GPU fail and a wait in another thread ends with an error."""
    child = start(
        INITIALISED
        + """
d, other, mig = gpu(1), gpu(0), nvmlDeviceGetMigDeviceHandleByIndex(gpu(1), 0)
events = listen(0, 1)
waiting = threading.Thread(target=lambda: heard.append(wait(events)))
heard = []
waiting.start()
say("ready")
for turn in range(2):
    sys.stdin.readline()
    say([ask(nvmlDeviceGetUUID, d), ask(nvmlDeviceGetName, mig),
         ask(nvmlDeviceGetIndex, other), nvmlDeviceGetCount()])
    waiting.join()
    say([heard[0], wait(events, 0), wait(listen(0), 0)])
"""
    )
    uuid, name = nvml_library.GPU_UUIDS[1], nvml_library.MIG_NAME
    assert hear(child) == "ready"
    steering.lost(1)
    tell(child)
    assert hear(child) == ["error 15", "error 15", 0, 2]
    assert hear(child) == ["error 15", "error 15", "error 10"]
    steering.recover(1)
    tell(child)
    assert hear(child) == [uuid, name, 0, 2]
    assert hear(child) == ["error 15", "error 10", "error 10"]


def test_commands_take_effect_in_order(start: Start, steering: nvml_library.Steering) -> None:
    """An Xid before a loss is delivered first; an Xid after it arrives at a set without the lost
    GPU.
    """
    child = start(
        INITIALISED
        + """
events, other = listen(0, 1), listen(1)
say("ready")
sys.stdin.readline()
say([wait(events)[2], wait(events), wait(other)[2]])
"""
    )
    assert hear(child) == "ready"
    steering.xid(0, 79)
    steering.lost(0)
    steering.xid(1, 31)
    tell(child)
    assert hear(child) == [79, "error 15", 31]


def test_a_hung_wait_never_returns(start: Start, steering: nvml_library.Steering) -> None:
    """After `hang`, even a wait with timeout zero does not return until the process is killed."""
    child = start(LISTENING + "sys.stdin.readline()\nsay('waits')\nwait(events, 0)\n")
    assert hear(child) == "ready"
    steering.hang()
    tell(child)
    assert hear(child) == "waits"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.kill()
    assert child.wait(GUARD) == -signal.SIGKILL


def test_a_gpu_without_events_registers_none(start: Start) -> None:
    """A GPU without Xid events says so and refuses to register them; the other GPU accepts."""
    child = start(
        INITIALISED
        + """
for index in range(2):
    say([nvmlDeviceGetSupportedEventTypes(gpu(index)) & nvmlEventTypeXidCriticalError,
         ask(nvmlDeviceRegisterEvents, gpu(index), 8, nvmlEventSetCreate())])
""",
        NO_EVENTS="0",
    )
    assert hear(child) == [0, "error 3"]
    assert hear(child) == [XID, None]


def test_a_command_without_a_reader_is_an_error(tmp_path: Path) -> None:
    """A command that no process reads is an error and is not lost silently."""
    os.mkfifo(tmp_path / "commands")
    with pytest.raises(OSError, match="No such device or address"):
        nvml_library.Steering(tmp_path).xid(0, 79)


def test_an_event_before_the_registration_is_dropped(
    start: Start, steering: nvml_library.Steering
) -> None:
    """A set gets the events that happen while it has the GPU registered, and no earlier ones."""
    child = start(LISTENING + "sys.stdin.readline()\nsay(wait(listen(0), 0))\nsay(wait(events))\n")
    assert hear(child) == "ready"
    steering.xid(0, 79)
    tell(child)
    assert hear(child) == "error 10"
    assert hear(child) == [nvml_library.GPU_UUIDS[0], XID, 79, NOWHERE, NOWHERE]
