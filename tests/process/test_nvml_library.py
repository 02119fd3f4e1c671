"""The stand-in for NVML: its GPUs and MIG instances, as nvidia-ml-py reads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import nvml_library
from tests.fakes.nvml_library import INITIALISED, PRELUDE, Start, hear, tell

OTHER_PLACES = [place for place in range(7) if place not in nvml_library.MIG_PLACES]


@pytest.fixture
def start(library: Path, tmp_path: Path) -> Iterator[Start]:
    """Start Python on a script, with the stand-in on its library path."""
    with nvml_library.children(library, tmp_path) as begin:
        yield begin


def test_a_gpu_has_the_values_of_the_node(start: Start) -> None:
    """Each GPU reports its own UUID, memory and PCI address."""
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
    """A MIG instance reports its own UUID, size and parent GPU."""
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


def test_calls_for_another_kind_of_device_fail(start: Start) -> None:
    """Calls for MIG instances fail on a GPU, calls for GPUs fail on an instance, and unknown
    devices are not found.
    """
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


def test_the_gpus_are_connected_by_a_switch_and_two_nvlinks(start: Start) -> None:
    """The two GPUs share one PCIe switch, and two of 18 NVLinks of each lead to the other GPU."""
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
    """An old driver enumerates GPUs and registers events, but supports neither MIG nor NVLink nor
    field values.
    """
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


def test_a_gpu_is_lost_before_the_start(start: Start) -> None:
    """A GPU lost before the start is counted but has no handle, and the other GPU is unaffected."""
    child = start(
        INITIALISED
        + "say([nvmlDeviceGetCount(), ask(nvmlDeviceGetHandleByIndex, 1),\n"
        + f"ask(nvmlDeviceGetHandleByUUID, {nvml_library.MIG_UUIDS[0]!r}),\n"
        + "nvmlDeviceGetUUID(gpu(0))])\n",
        LOST="1",
    )
    assert hear(child) == [2, "error 15", "error 15", nvml_library.GPU_UUIDS[0]]


@pytest.mark.parametrize(
    ("code", "name"),
    [("9", "NVMLError_DriverNotLoaded"), ("18", "NVMLError_LibRmVersionMismatch")],
)
def test_the_init_fails_on_request(start: Start, code: str, name: str) -> None:
    """Initialisation returns the error in the environment, and the library stays uninitialised."""
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
    """The last nvmlShutdown uninitialises the library, and a freed event set is invalid."""
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


def test_a_library_loaded_by_path_is_used(start: Start, library: Path) -> None:
    """When the library was loaded by path before, nvidia-ml-py finds it by its name."""
    child = start(
        "import ctypes, os, sys\n"
        "if os.environ.pop('LD_LIBRARY_PATH', None):\n"
        "    os.execv(sys.executable, sys.orig_argv)\n"
        f"ctypes.CDLL({str(library)!r})\n" + INITIALISED + "say(nvmlDeviceGetCount())\n"
    )
    assert hear(child) == 2


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    """A failed build raises RuntimeError with the compiler's message."""
    with pytest.raises(RuntimeError, match=r"cannot build .*absent.*: .*No such file"):
        nvml_library.build(tmp_path / "absent")


def test_only_one_function_hangs(start: Start, tmp_path: Path) -> None:
    """One function can hang for a GPU, or for the driver; what else is asked is answered."""
    child = start(
        INITIALISED
        + """
def in_thread(function, *arguments):
    threading.Thread(target=lambda: say(function(*arguments)), daemon=True).start()

d = gpu(1)
say("ready")
sys.stdin.readline()
in_thread(nvmlDeviceGetName, d)
in_thread(nvmlDeviceGetCount)
say([nvmlDeviceGetName(gpu(0)), nvmlDeviceGetUUID(d)])
sys.stdin.readline()
"""
    )
    steering = nvml_library.Steering(tmp_path)
    assert hear(child) == "ready"
    steering.hang(1, "nvmlDeviceGetName")
    steering.hang_driver("nvmlDeviceGetCount")
    tell(child)
    assert hear(child) == [nvml_library.GPU_NAME, nvml_library.GPU_UUIDS[1]]
    steering.answer(1)
    assert hear(child) == nvml_library.GPU_NAME
    steering.answer_driver()
    assert hear(child) == 2


def test_a_compute_mode_is_kept_for_all_processes(start: Start, tmp_path: Path) -> None:
    """A mode is DEFAULT until it is set; with a folder for modes it outlives its process."""
    script = (
        INITIALISED
        + """
say([nvmlDeviceGetComputeMode(gpu(0)), nvmlDeviceGetComputeMode(gpu(1))])
say([ask(nvmlDeviceSetComputeMode, gpu(0), 3), ask(nvmlDeviceSetComputeMode, gpu(1), 4)])
say([nvmlDeviceGetComputeMode(gpu(0)), nvmlDeviceGetComputeMode(gpu(1))])
"""
    )
    for number, before in enumerate((0, 3)):
        child = start(script, MODES=str(tmp_path))
        assert hear(child) == [before, 0], number
        assert hear(child) == [None, "error 2"]
        assert hear(child) == [3, 0]
