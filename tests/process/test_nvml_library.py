"""The stand-in for NVIDIA's management library, as the real binding in another process sees it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import nvml_library

GUARD = 60  # seconds; nothing here comes near it unless something hangs

# A child ends itself at the guard, so that no read of its output can hang a test.
PRELUDE = f"""
import json, signal, sys, threading
from pynvml import *
signal.alarm({GUARD})

def say(value):
    print(json.dumps(value), flush=True)

def ask(function, *arguments):
    try:
        return function(*arguments)
    except NVMLError as error:
        return f"error {{error.value}}"

def gpu(index):
    return nvmlDeviceGetHandleByIndex(index)

def listen(*indices):
    events = nvmlEventSetCreate()
    for index in indices:
        nvmlDeviceRegisterEvents(gpu(index), nvmlEventTypeXidCriticalError, events)
    return events

def wait(events, milliseconds={GUARD * 1000}):
    event = ask(nvmlEventSetWait_v2, events, milliseconds)
    if isinstance(event, str):
        return event
    return [ask(nvmlDeviceGetUUID, event.device), event.eventType, event.eventData,
            event.gpuInstanceId, event.computeInstanceId]
"""
INITIALISED = PRELUDE + "nvmlInit()\n"
LISTENING = INITIALISED + "events = listen(0, 1)\nsay('ready')\n"
XID = 8
NOWHERE = 0xFFFFFFFF
OTHER_PLACES = [place for place in range(7) if place not in nvml_library.MIG_PLACES]

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library once for all tests."""
    return nvml_library.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def steering(tmp_path: Path) -> nvml_library.Steering:
    """Steer the children that this test starts."""
    return nvml_library.Steering(tmp_path)


@pytest.fixture
def start(library: Path, tmp_path: Path) -> Iterator[Start]:
    """Start Python on a script with the library in its path, and end all such children after."""
    children: list[subprocess.Popen[str]] = []

    def begin(script: str, **conditions: str) -> subprocess.Popen[str]:
        settings = {f"STANDIN_NVML_{name}": value for name, value in conditions.items()}
        paths = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(tmp_path)}
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **paths, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate(timeout=GUARD)


def hear(child: subprocess.Popen[str]) -> Any:
    """Return the next value that the child says."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, f"the child ended with {child.wait(GUARD)}"
    return json.loads(line)


def tell(child: subprocess.Popen[str]) -> None:
    """Let a child that reads a line go on."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_a_gpu_has_the_values_of_the_node(start: Start) -> None:
    """Each GPU answers with its own identity, memory and place on the bus."""
    child = start(
        INITIALISED
        + """
for index in range(nvmlDeviceGetCount()):
    d = gpu(index)
    pci = nvmlDeviceGetPciInfo(d)
    say([nvmlDeviceGetUUID(d), nvmlDeviceGetName(d), nvmlDeviceGetIndex(d),
         nvmlDeviceGetMinorNumber(d), pci.busId, pci.busIdLegacy, pci.bus,
         nvmlDeviceGetMemoryInfo(d).total, nvmlDeviceGetCudaComputeCapability(d),
         nvmlDeviceGetIndex(nvmlDeviceGetHandleByUUID(nvmlDeviceGetUUID(d)))])
say([nvmlSystemGetDriverVersion(), nvmlSystemGetNVMLVersion()])
"""
    )
    mib = 1024 * 1024
    uuids, name, memory = nvml_library.GPU_UUIDS, nvml_library.GPU_NAME, 81559 * mib
    ids = nvml_library.GPU_BUS_IDS
    assert hear(child) == [uuids[0], name, 0, 3, ids[0], ids[0][4:], 7, memory, [9, 0], 0]
    assert hear(child) == [uuids[1], name, 1, 5, ids[1], ids[1][4:], 10, memory, [9, 0], 1]
    assert hear(child) == ["580.95.05", "13.580.95.05"]


def test_a_mig_instance_has_the_values_of_the_node(start: Start) -> None:
    """An instance answers with its own identity, size and parent."""
    child = start(
        INITIALISED
        + """
say([nvmlDeviceGetMigMode(gpu(0)), nvmlDeviceGetMaxMigDeviceCount(gpu(0))])
say([nvmlDeviceGetMigMode(gpu(1)), nvmlDeviceGetMaxMigDeviceCount(gpu(1))])
for place in range(8):
    mig = ask(nvmlDeviceGetMigDeviceHandleByIndex, gpu(1), place)
    if isinstance(mig, str):
        say([place, mig])
        continue
    a = nvmlDeviceGetAttributes(mig)
    say([place, nvmlDeviceGetUUID(mig), nvmlDeviceGetName(mig), nvmlDeviceGetIndex(mig),
         nvmlDeviceGetGpuInstanceId(mig), nvmlDeviceGetComputeInstanceId(mig),
         nvmlDeviceGetMemoryInfo(mig).total >> 20, a.multiprocessorCount,
         a.gpuInstanceSliceCount, a.computeInstanceSliceCount, a.memorySizeMB,
         nvmlDeviceGetIndex(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)),
         nvmlDeviceGetUUID(nvmlDeviceGetHandleByUUID(nvmlDeviceGetUUID(mig)))])
"""
    )
    assert hear(child) == [[0, 0], 0]
    assert hear(child) == [[1, 1], 7]
    expected: dict[int, list[Any]] = {place: [place, "error 6"] for place in OTHER_PLACES}
    expected[7] = [7, "error 2"]
    for place, uuid, ids in zip(
        nvml_library.MIG_PLACES, nvml_library.MIG_UUIDS, nvml_library.MIG_INSTANCES, strict=True
    ):
        name = nvml_library.MIG_NAME
        expected[place] = [place, uuid, name, place, *ids, 9984, 16, 1, 1, 9984, 1, uuid]
    assert [hear(child) for _ in range(8)] == [expected[place] for place in range(8)]


def test_what_a_device_is_not_it_does_not_answer(start: Start) -> None:
    """A GPU refuses an instance's questions, an instance a GPU's, and an unknown device is none."""
    child = start(
        INITIALISED
        + """
mig = nvmlDeviceGetMigDeviceHandleByIndex(gpu(1), 0)
for d in gpu(0), gpu(1), mig:
    say([ask(f, d) if isinstance(ask(f, d), str) else "" for f in (
        nvmlDeviceGetGpuInstanceId, nvmlDeviceGetAttributes,
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle, nvmlDeviceGetMinorNumber,
        nvmlDeviceGetPciInfo, nvmlDeviceGetMigMode, nvmlDeviceGetSupportedEventTypes)])
say([ask(nvmlDeviceGetMigDeviceHandleByIndex, gpu(0), 0),
     ask(nvmlDeviceRegisterEvents, mig, 8, nvmlEventSetCreate()),
     ask(nvmlDeviceGetHandleByIndex, 2), ask(nvmlDeviceGetHandleByUUID, "GPU-none"),
     ask(nvmlDeviceGetUUID, None)])
"""
    )
    assert hear(child) == ["error 3", "error 3", "error 3", "", "", "", ""]
    assert hear(child) == ["error 2", "error 2", "error 2", "", "", "", ""]
    assert hear(child) == ["", "", "", "error 3", "error 3", "error 2", "error 3"]
    assert hear(child) == ["error 3", "error 3", "error 2", "error 6", "error 2"]


def test_the_gpus_are_joined_by_a_switch_and_two_links(start: Start) -> None:
    """The pair has the level of one PCIe switch, and two of 18 NVLinks lead to the other GPU."""
    child = start(
        INITIALISED
        + """
say([nvmlDeviceGetTopologyCommonAncestor(gpu(0), gpu(1)) == NVML_TOPOLOGY_SINGLE,
     nvmlDeviceGetTopologyCommonAncestor(gpu(1), gpu(1)) == NVML_TOPOLOGY_INTERNAL])
for index in range(2):
    say([ask(nvmlDeviceGetNvLinkState, gpu(index), link) for link in range(19)])
    say([nvmlDeviceGetNvLinkRemotePciInfo(gpu(index), link).busId for link in range(2)])
    say([nvmlDeviceGetNvLinkRemoteDeviceType(gpu(index), 1),
         ask(nvmlDeviceGetNvLinkRemotePciInfo, gpu(index), 2)])
    say([[v.nvmlReturn, v.value.uiVal] for v in nvmlDeviceGetFieldValues(gpu(index), [91])])
"""
    )
    assert hear(child) == [True, True]
    for other in (1, 0):
        assert hear(child) == [1] * 2 + [0] * 16 + ["error 2"]
        assert hear(child) == [nvml_library.GPU_BUS_IDS[other]] * 2
        assert hear(child) == [0, "error 3"]
        assert hear(child) == [[0, 18]]


def test_an_old_driver_knows_neither_mig_nor_nvlink(start: Start) -> None:
    """An old driver enumerates GPUs and listens to them, and refuses MIG, NVLink and fields."""
    child = start(
        INITIALISED
        + """
listen(0, 1)
say([ask(nvmlDeviceGetMigMode, gpu(1)), ask(nvmlDeviceGetMaxMigDeviceCount, gpu(1)),
     ask(nvmlDeviceGetMigDeviceHandleByIndex, gpu(1), 0), ask(nvmlDeviceGetAttributes, gpu(1)),
     ask(nvmlDeviceGetNvLinkState, gpu(0), 0), ask(nvmlDeviceGetFieldValues, gpu(0), [91])])
""",
        OLD="1",
    )
    assert hear(child) == ["error 3"] * 6


def test_an_xid_reaches_the_wait_at_once(start: Start, steering: nvml_library.Steering) -> None:
    """An Xid is delivered long before the time-out, with no instance when none was named."""
    child = start(LISTENING + "say(wait(events))\n")
    assert hear(child) == "ready"
    steering.xid(0, 79)
    assert hear(child) == [nvml_library.GPU_UUIDS[0], XID, 79, NOWHERE, NOWHERE]


def test_an_xid_of_an_instance_names_it(start: Start, steering: nvml_library.Steering) -> None:
    """An instance's Xid comes with its GPU's handle and the instance's ids."""
    child = start(LISTENING + "say(wait(events))\nsay(wait(events))\n")
    assert hear(child) == "ready"
    steering.xid(1, 31, 8, 0)
    assert hear(child) == [nvml_library.GPU_UUIDS[1], XID, 31, 8, 0]
    steering.xid(1, 43, 7)
    assert hear(child) == [nvml_library.GPU_UUIDS[1], XID, 43, 7, NOWHERE]


def test_no_command_is_lost(start: Start, steering: nvml_library.Steering) -> None:
    """Events written while nobody waits, more than the library keeps, all arrive in order."""
    script = "sys.stdin.readline()\nsay([wait(events)[2] for _ in range(1000)])\n"
    child = start(LISTENING + script)
    assert hear(child) == "ready"
    for code in range(1000):
        steering.xid(code % 2, code)
    tell(child)
    assert hear(child) == list(range(1000))


def test_a_call_keeps_no_event_from_the_wait(start: Start) -> None:
    """A call that comes to a command first leaves the event to the thread that waits."""
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
    """A wait ends in TIMEOUT when nothing came, or nothing of a GPU that its set registers."""
    child = start(
        INITIALISED + "say(wait(listen(0, 1), 0))\nsys.stdin.readline()\nsay(wait(listen(0), 1))\n"
    )
    assert hear(child) == "error 10"
    steering.xid(1, 79)
    tell(child)
    assert hear(child) == "error 10"


def test_a_lost_gpu_answers_nothing_else(start: Start, steering: nvml_library.Steering) -> None:
    """While another thread waits, a loss is in force at the next call, and the wait reports it."""
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


def test_commands_are_met_in_their_order(start: Start, steering: nvml_library.Steering) -> None:
    """An Xid before a loss is delivered, one after it waits for a set without the lost GPU."""
    child = start(
        LISTENING
        + "sys.stdin.readline()\nsay([wait(events)[2], wait(events), wait(listen(1))[2]])\n"
    )
    assert hear(child) == "ready"
    steering.xid(0, 79)
    steering.lost(0)
    steering.xid(1, 31)
    tell(child)
    assert hear(child) == [79, "error 15", 31]


def test_a_hung_wait_never_returns(start: Start, steering: nvml_library.Steering) -> None:
    """After `hang` even a wait with a time-out of zero keeps its thread, until it is killed."""
    child = start(LISTENING + "sys.stdin.readline()\nsay('waits')\nwait(events, 0)\n")
    assert hear(child) == "ready"
    steering.hang()
    tell(child)
    assert hear(child) == "waits"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.kill()
    assert child.wait(GUARD) == -signal.SIGKILL


def test_a_gpu_is_lost_from_the_start(start: Start) -> None:
    """A GPU lost at the start counts, has no handle, and leaves the others as they are."""
    child = start(
        INITIALISED
        + "say([nvmlDeviceGetCount(), ask(nvmlDeviceGetHandleByIndex, 1),\n"
        + f"ask(nvmlDeviceGetHandleByUUID, {nvml_library.MIG_UUIDS[0]!r}),\n"
        + "nvmlDeviceGetUUID(gpu(0))])\n",
        LOST="1",
    )
    assert hear(child) == [2, "error 15", "error 15", nvml_library.GPU_UUIDS[0]]


def test_a_gpu_without_events_registers_none(start: Start) -> None:
    """A GPU without Xid events says so and refuses to register, the other one does not."""
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


@pytest.mark.parametrize(
    ("code", "name"),
    [("9", "NVMLError_DriverNotLoaded"), ("18", "NVMLError_LibRmVersionMismatch")],
)
def test_the_init_fails_on_request(start: Start, code: str, name: str) -> None:
    """The init answers the error of the environment, and the library stays uninitialised."""
    child = start(
        PRELUDE
        + """
try:
    nvmlInit()
except NVMLError as error:
    say([type(error).__name__, error.value, ask(nvmlDeviceGetCount)])
""",
        INIT_ERROR=code,
    )
    assert hear(child) == [name, int(code), "error 1"]


def test_the_library_counts_its_users(start: Start) -> None:
    """The last shutdown leaves the library uninitialised, and an event set freed is none."""
    child = start(
        INITIALISED
        + """
nvmlInit()
nvmlShutdown()
events = listen(0)
nvmlEventSetFree(events)
say([wait(events, 0), ask(nvmlShutdown), ask(nvmlShutdown), ask(nvmlEventSetCreate)])
"""
    )
    assert hear(child) == ["error 2", None, "error 1", "error 1"]


def test_a_library_loaded_by_path_serves_the_binding(start: Start, library: Path) -> None:
    """Loaded by its path beforehand, the library is the one that the binding finds by name."""
    child = start(
        "import ctypes, os, sys\n"
        "if os.environ.pop('LD_LIBRARY_PATH', None):\n"
        "    os.execv(sys.executable, sys.orig_argv)\n"
        f"ctypes.CDLL({str(library)!r})\n" + INITIALISED + "say(nvmlDeviceGetCount())\n"
    )
    assert hear(child) == 2


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    """A library that cannot be built is a RuntimeError with the compiler's words."""
    with pytest.raises(RuntimeError, match=r"cannot build .*absent.*: .*No such file"):
        nvml_library.build(tmp_path / "absent")


def test_steering_nobody_is_an_error(tmp_path: Path) -> None:
    """A command that no process would read is refused, not lost."""
    os.mkfifo(tmp_path / "commands")
    with pytest.raises(OSError, match="No such device or address"):
        nvml_library.Steering(tmp_path).xid(0, 79)
