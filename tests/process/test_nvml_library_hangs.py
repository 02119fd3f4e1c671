"""The stand-in for NVML: GPUs that hang, are slow or fail, as nvidia-ml-py meets them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.nvml_library import GPU_UUIDS, INITIALISED, PRELUDE, Start, Steering, hear, tell

XID = 8
NOWHERE = 0xFFFFFFFF

# in_thread begins the call in a thread that says what it answered.
THREADS = (
    INITIALISED
    + """
def in_thread(name, function, *arguments):
    def call():
        answer = ask(function, *arguments)
        say([name, answer if isinstance(answer, (int, str, list)) else None])
    threading.Thread(target=call, daemon=True).start()
"""
)
EVERY_KIND_OF_CALL = """
d, other, mig = gpu(1), gpu(0), nvmlDeviceGetMigDeviceHandleByIndex(gpu(1), 0)
both = listen(0, 1)
calls = [
    ("index", nvmlDeviceGetHandleByIndex, 1),
    ("uuid", nvmlDeviceGetHandleByUUID, nvmlDeviceGetUUID(d)),
    ("name", nvmlDeviceGetName, d),
    ("instance", nvmlDeviceGetGpuInstanceId, mig),
    ("first of two", nvmlDeviceGetTopologyCommonAncestor, d, other),
    ("second of two", nvmlDeviceGetTopologyCommonAncestor, other, d),
    ("register", nvmlDeviceRegisterEvents, d, 8, nvmlEventSetCreate()),
    ("wait", wait, both, 0),
]
"""
ANSWERS = {
    "index": None,
    "uuid": None,
    "name": nvml_library.GPU_NAME,
    "instance": 7,
    "first of two": 10,
    "second of two": 10,
    "register": None,
    "wait": "error 10",
}


@pytest.fixture
def start(library: Path, tmp_path: Path) -> Iterator[Start]:
    """Start Python on a script, with the stand-in on its library path."""
    with nvml_library.children(library, tmp_path) as begin:
        yield begin


@pytest.fixture
def steering(tmp_path: Path) -> Steering:
    """Return the object that steers the library in the processes of this test."""
    return Steering(tmp_path)


def test_every_call_on_a_hung_gpu_returns_once_it_answers(start: Start, steering: Steering) -> None:
    """While a GPU hangs no call on it returns and the other GPU answers; `answer` ends all calls
    that hang, though nobody makes another call.
    """
    child = start(
        THREADS
        + EVERY_KIND_OF_CALL
        + """
say("ready")
sys.stdin.readline()
for call in calls:
    in_thread(*call)
say([nvmlDeviceGetIndex(other), nvmlDeviceGetCount(), wait(listen(0), 0)])
sys.stdin.readline()
"""
    )
    assert hear(child) == "ready"
    steering.hang(1)
    tell(child)
    assert hear(child) == [0, 2, "error 10"]
    steering.answer(1)
    assert dict(hear(child) for _ in ANSWERS) == ANSWERS


def test_a_gpu_hangs_from_the_start(start: Start, steering: Steering) -> None:
    """A GPU can hang from the first call on, until it is told to answer."""
    child = start(
        THREADS + "in_thread('name', lambda: nvmlDeviceGetName(gpu(1)))\n"
        "say(nvmlDeviceGetUUID(gpu(0)))\nsys.stdin.readline()\n",
        HANG="1",
    )
    assert hear(child) == GPU_UUIDS[0]
    steering.answer(1)
    assert hear(child) == ["name", nvml_library.GPU_NAME]


def test_a_hung_gpu_does_not_stop_the_events_of_another(start: Start, steering: Steering) -> None:
    """Events reach the wait on another GPU's set while calls and a wait on the hung GPU hang."""
    child = start(
        THREADS
        + """
sets = [listen(index) for index in range(2)]
d = gpu(1)
say("ready")
sys.stdin.readline()
in_thread("name", nvmlDeviceGetName, d)
in_thread("hung", wait, sets[1])
for turn in range(2):
    say(wait(sets[0]))
sys.stdin.readline()
"""
    )
    assert hear(child) == "ready"
    steering.hang(1)
    tell(child)
    for code in (31, 79):
        steering.xid(1, code)
        steering.xid(0, code)
        assert hear(child) == [GPU_UUIDS[0], XID, code, NOWHERE, NOWHERE]
    steering.answer(1)
    heard = dict(hear(child) for _ in range(2))
    assert heard == {
        "name": nvml_library.GPU_NAME,
        "hung": [GPU_UUIDS[1], XID, 31, NOWHERE, NOWHERE],
    }


def test_two_sets_in_two_threads_get_their_own_gpus_events(
    start: Start, steering: Steering
) -> None:
    """Each of two threads that wait gets all events of its own GPU, and a third set gets both."""
    child = start(
        INITIALISED
        + """
both = listen(0, 1)
heard = [[], []]
def hear(index, events):
    say("ready")
    while len(heard[index]) < 500:
        heard[index].append(wait(events)[2])
threads = [threading.Thread(target=hear, args=(i, listen(i)), daemon=True) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say(heard)
say([wait(both, 0)[2] for _ in range(1000)])
"""
    )
    assert [hear(child), hear(child)] == ["ready", "ready"]
    for code in range(1000):
        steering.xid(code % 2, code)
    assert hear(child) == [list(range(0, 1000, 2)), list(range(1, 1000, 2))]
    assert hear(child) == list(range(1000))


def test_a_command_wakes_every_thread_that_waits(start: Start, steering: Steering) -> None:
    """One Xid ends the wait of each thread whose set has the GPU, and a thread that stops waiting
    leaves the commands to the others.
    """
    child = start(
        THREADS
        + """
for name in range(4):
    in_thread(name, wait, listen(0))
say(wait(listen(0, 1), 1))
sys.stdin.readline()
"""
    )
    assert hear(child) == "error 10"
    steering.xid(0, 79)
    event = [GPU_UUIDS[0], XID, 79, NOWHERE, NOWHERE]
    assert sorted(hear(child) for _ in range(4)) == [[name, event] for name in range(4)]


TIMED = """
import time
def timed(function, *arguments):
    begun = time.monotonic()
    function(*arguments)
    return time.monotonic() - begun >= 0.05
"""


def test_a_slow_gpu_answers_later(start: Start, steering: Steering) -> None:
    """Each call on a slow GPU takes so much longer, but not the wait, until it is slow no more."""
    child = start(
        INITIALISED
        + TIMED
        + """
d, events = gpu(0), listen(0)
say("ready")
sys.stdin.readline()
say(timed(nvmlDeviceGetName, d))
for turn in range(2):
    sys.stdin.readline()
    say(nvmlEventSetWait_v2(events, 60_000).eventData)
    say(nvmlDeviceGetIndex(d))
"""
    )
    assert hear(child) == "ready"
    steering.slow(0, 50)
    tell(child)
    assert hear(child) is True
    for undone_by_answer in (False, True):
        steering.slow(0, 3_600_000)
        steering.xid(0, 79)
        tell(child)
        assert hear(child) == 79
        if undone_by_answer:
            steering.answer(0)
        else:
            steering.slow(0, 0)
        assert hear(child) == 0


@pytest.mark.parametrize(("slow", "expected"), [("1:50", [False, True]), ("all:50", [True, True])])
def test_gpus_are_slow_from_the_start(start: Start, slow: str, expected: list[bool]) -> None:
    """One GPU or all of them can be slow from the first call on."""
    child = start(
        INITIALISED + TIMED + "say([timed(gpu, index) for index in range(2)])\n", SLOW=slow
    )
    heard = hear(child)
    assert heard[1] is True
    assert heard[0] or not expected[0]  # a loaded machine may make any call slow


def test_one_call_fails_on_one_gpu(start: Start, steering: Steering) -> None:
    """A function fails with the code for that GPU only, the GPU's other functions answer."""
    child = start(
        INITIALISED
        + """
events = listen(0)
handles = [gpu(0), gpu(1)]
say("ready")
for turn in range(3):
    sys.stdin.readline()
    say([[ask(nvmlDeviceGetName, d), ask(nvmlDeviceGetIndex, d)] for d in handles])
    say([isinstance(ask(gpu, 0), str), wait(events, 0)])
"""
    )
    name = nvml_library.GPU_NAME
    assert hear(child) == "ready"
    steering.fail(0, "nvmlDeviceGetName", 999)
    steering.fail(0, "nvmlDeviceGetHandleByIndex", 4)
    tell(child)
    assert hear(child) == [["error 999", 0], [name, 1]]
    assert hear(child) == [True, "error 10"]
    steering.fail(0, "nvmlDeviceGetName", 0)
    steering.fail(0, "nvmlEventSetWait", 3)
    tell(child)
    assert hear(child) == [[name, 0], [name, 1]]
    assert hear(child) == [True, "error 3"]
    steering.answer(0)
    tell(child)
    assert hear(child) == [[name, 0], [name, 1]]
    assert hear(child) == [False, "error 10"]


def test_calls_fail_from_the_start(start: Start) -> None:
    """Calls can fail from the first one on, several of them too."""
    child = start(
        INITIALISED + "say([ask(nvmlDeviceGetName, gpu(i)) for i in range(2)])\n"
        "say([ask(nvmlDeviceGetIndex, gpu(i)) for i in range(2)])\n",
        FAIL="0:nvmlDeviceGetName:999,1:nvmlDeviceGetIndex:3",
    )
    assert hear(child) == ["error 999", nvml_library.GPU_NAME]
    assert hear(child) == [0, "error 3"]


def test_a_call_that_the_library_lacks_cannot_fail(steering: Steering) -> None:
    """A misspelled function is an error at once."""
    with pytest.raises(ValueError, match='cannot fail "nvmlDeviceGetNames"'):
        steering.fail(0, "nvmlDeviceGetNames", 999)


@pytest.mark.parametrize("code", [nvml_library.UNKNOWN, 4])
def test_a_process_without_access_gets_errors(start: Start, steering: Steering, code: int) -> None:
    """Every call on a device and every wait fails with the code until access is back."""
    child = start(
        INITIALISED
        + """
events, d = listen(0), gpu(0)
in_wait = threading.Thread(target=lambda: say(wait(events)))
in_wait.start()
say("ready")
in_wait.join()
for turn in range(2):
    say([ask(nvmlDeviceGetIndex, d), isinstance(ask(gpu, 0), str), wait(events, 0),
         nvmlDeviceGetCount()])
    sys.stdin.readline()
"""
    )
    assert hear(child) == "ready"
    steering.denied(code)
    assert hear(child) == f"error {code}"
    assert hear(child) == [f"error {code}", True, f"error {code}", 2]
    steering.allowed()
    tell(child)
    assert hear(child) == [0, False, "error 10", 2]


def test_a_process_has_no_access_from_the_start(start: Start) -> None:
    """Access can be missing from the first call on."""
    child = start(INITIALISED + "say([nvmlDeviceGetCount(), ask(gpu, 0)])\n", DENIED="4")
    assert hear(child) == [2, "error 4"]


def test_the_init_hangs_on_request(start: Start) -> None:
    """With HANG_INIT the initialisation does not return, and other threads go on."""
    child = start(
        PRELUDE
        + """
threading.Thread(target=lambda: say(ask(nvmlInit)), daemon=True).start()
say("goes on")
sys.stdin.readline()
""",
        HANG_INIT="1",
    )
    assert hear(child) == "goes on"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    tell(child)
    assert child.wait(nvml_library.GUARD) == 0
    assert child.stdout is not None
    assert child.stdout.read() == ""
