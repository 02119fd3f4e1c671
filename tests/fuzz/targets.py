"""The promises of each function that reads untrusted bytes; a target fails where a promise breaks.

In `make test`, hypothesis runs the targets on random bytes and on the inputs in regressions/;
`scripts/fuzz` runs them guided by coverage.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from health import cdi_spec, device_nodes, kernel_log, xid_policy
from health.condition import Condition
from health.ledger import FILE, Ledger
from proto import deviceplugin_pb2 as api
from proto import messages, requests
from proto.channel import SEALS, Channel, ClosedError
from proto.mps import MpsShare
from proto.texts import printable
from proto.worker import AllocationPolicy, DeviceListStrategy, Handout
from simulator.live_node import LiveNode
from simulator.node import NodeError
from supervisor.compose import compose, endpoint
from supervisor.config import naming
from supervisor.config.check_paths import SOCKET_PATH_LIMIT
from supervisor.config.options import OPTIONS
from supervisor.config.refusal import SettingsError
from supervisor.config.settings import Settings, load
from tests.fuzz.of_answers import api_lines, api_node, holders, pod_resources, status_answer
from tests.fuzz.of_requests import accept, host, probe, processes
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, view
from workers import response
from workers.allocation import Allocator
from workers.topology import Topology

M = TypeVar("M", bound=Message)

NODE = inventory(gpu(0), gpu(1), mig_gpu(2, "1g.10gb", "3g.40gb"))
SHARED = view({gpu_uuid(0): 4, gpu_uuid(1): 4})
WHOLE = view({gpu_uuid(place): 1 for place in range(8)})
MPS = view({gpu_uuid(0): 4, gpu_uuid(1): 1}, mps=MpsShare(1024, 10, single=False))
SETTABLE = [option for option in OPTIONS if option.path != "service.configFile"]


@functools.cache
def scratch() -> Path:
    """Return a folder in memory: on disk, writing a file for each input would take longest."""
    folder = tempfile.mkdtemp(prefix="gs-fuzz-", dir=_memory())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _load(flags: dict[str, str], environment: dict[str, str]) -> Settings | None:
    """Return the settings, or None if they are refused in one printable line, as promised."""
    try:
        return load(flags, environment)
    except SettingsError as error:
        text = str(error)
        assert text.startswith("cannot ")
        assert text.isprintable()
        # These begin the refusal of what nobody foresaw; it does not name the setting.
        assert not text.startswith(("cannot use the settings:", "cannot use these settings:"))
        return None


def _serve(settings: Settings | None) -> None:
    """Do what the supervisor does with accepted settings before it forks."""
    if settings is None:
        return
    service = compose(settings)
    for resource in service.plan(NODE).resources:
        assert naming.full(resource.resource) == resource.resource
        name = endpoint(resource.resource, settings.service.device_plugin_path)
        assert Path(name).name == name
        assert len(f"{settings.service.device_plugin_path}/{name}".encode()) <= SOCKET_PATH_LIMIT
        assert msgspec.msgpack.encode(service.worker(resource).settings)


def configuration(data: bytes) -> None:
    """Accept a configuration file, or refuse it in one line."""
    path = scratch() / "config.yaml"
    path.write_bytes(data)
    _serve(_load({"service.configFile": str(path)}, {}))


def node(data: bytes) -> None:
    """Accept a node file, or refuse it in one line."""
    path = scratch() / "node.yaml"
    path.write_bytes(data)
    _load({"service.simulatedNode": str(path)}, {})


def options(data: bytes) -> None:
    """Accept a flag and the environment variable of a setting, or refuse them in one line."""
    option = SETTABLE[data[0] % len(SETTABLE)] if data else SETTABLE[0]
    text = os.fsdecode(data[1:]).replace("\0", "")
    if option.path == "service.simulatedNode":
        text = str(scratch() / "none") + text
    _serve(_load({option.path: text}, {}))
    _load({}, dict.fromkeys(option.environment, text))


def resource_config(data: bytes) -> None:
    """Accept `--resource-config`, or refuse it in one line."""
    _serve(_load({"service.resourceConfig": data.decode(errors="replace")}, {}))


def xid_lists(data: bytes) -> None:
    """Accept any DP_* list, with one printable notice for each malformed entry.

    The table that `xids` prints is not made here: no text gets there, and it took all the time.
    """
    disabled, _, enabled = data.decode(errors="replace").partition("|")
    first, ignored = xid_policy.select(xid_policy.DISABLE, disabled)
    second, more = xid_policy.select(xid_policy.ENABLE, enabled)
    assert all(map(str.isprintable, ignored + more))
    for code in first.codes | second.codes:
        row = xid_policy.judge(xid_policy.Wishes({}, first, second), code)
        assert row.fatal is (code in second)
        assert 0 < code < 1 << 32


def bus(data: bytes) -> None:
    """Decode a message, or return none; a decoded message can be encoded again."""
    if message := messages.decode(data):
        assert messages.decode(messages.encode(message)) is not None


def channel(data: bytes) -> None:
    """Receive a message, nothing, or the end of the channel, by datagram and by memory file."""
    file = os.memfd_create("fuzz", os.MFD_ALLOW_SEALING)
    os.write(file, data)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
    for rights in ([], [file]):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end = Channel(ours)
        with theirs, contextlib.closing(end), contextlib.suppress(ClosedError):
            socket.send_fds(theirs, [data], rights)
            end.receive()
    os.close(file)


def control_socket(data: bytes) -> None:
    """Decode a request or return none; always decode an answer."""
    if request := requests.decode(data):
        assert requests.decode(requests.encode(request)) == request
    requests.decode_answer(data)


def mig_minors(data: bytes) -> None:
    """Find the capability of an instance, whatever else is in the file."""
    path = scratch() / "driver/nvidia-caps/mig-minors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"gpu0/gi7/access 3\n" + data)
    assert device_nodes.capabilities(scratch())


def ledger(data: bytes) -> None:
    """Read a ledger or set it aside, and write it again."""
    folder = scratch() / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / FILE).write_bytes(data.replace(b"BOOT", _boot_id().read_bytes()))
    kept = Ledger(folder, _boot_id())
    places = {gpu_uuid(0): "0000:01:00.0"}
    conditions = kept.recall(places)
    kept.write(places, conditions, kept.gpus())
    assert kept.persisted
    # A device without any fault is not written: it is as one that was never seen.
    faults = {uuid: condition for uuid, condition in conditions.items() if condition != Condition()}
    assert Ledger(folder, _boot_id()).recall(places) == faults


def _boot_id() -> Path:
    path = scratch() / "boot_id"
    if not path.exists():
        path.write_text("0" * 36)
    return path


def live_node(data: bytes) -> None:
    """Read a simulated node, or raise NodeError."""
    live = LiveNode(scratch())
    live.path.write_bytes(data)
    with contextlib.suppress(NodeError):
        live.read()


def cdi_output(data: bytes) -> None:
    """Accept the output of nvidia-ctk or refuse it; find a reason in its messages."""
    with contextlib.suppress(cdi_spec.CdiError):
        cdi_spec.check(data, "a/b")
    cdi_spec.devices(cdi_spec.read(data, "a/b"))
    cdi_spec.reason(data)


def names(data: bytes) -> None:
    """Make a resource name of any profile, and match any pattern in little time."""
    profile, _, pattern = data.decode(errors="replace").partition("|")
    assert naming.full(naming.of_profile(profile))
    naming.matches(pattern, profile)
    assert naming.matches("*", profile)


def log_line(data: bytes) -> None:
    """Turn any text into one printable line."""
    text = printable(data.decode(errors="surrogateescape"))
    assert text.isprintable()
    text.encode()


def kernel_line(data: bytes) -> None:
    """Read any line of a kernel log; what an event says is short."""
    event = kernel_log.event_of(data)
    kernel_log.sequence(data)
    inner = kernel_log.event_of(b"3,1,1,-;" + data)
    assert kernel_log.event_of(b"11,1,1,-;" + data) is None
    for told in (event, inner):
        assert not isinstance(told, kernel_log.LoggedXid) or len(told.detail + told.name) < 300


def preferred(data: bytes) -> None:
    """Answer any request for a preferred allocation with available devices, not more than asked
    for.
    """
    request = _parsed(api.ContainerPreferredAllocationRequest(), data)
    distributed, packed, spread = AllocationPolicy
    for seen, policy in ((SHARED, distributed), (WHOLE, packed), (MPS, spread), (MPS, packed)):
        allocator = Allocator(seen.replicas, policy, Topology.of(()))
        ids = allocator.preferred(
            request.available_deviceIDs, request.must_include_deviceIDs, request.allocation_size
        )
        assert len(ids) <= max(request.allocation_size, 0)
        assert set(ids) <= set(request.available_deviceIDs) & seen.replicas.keys()


def allocate(data: bytes) -> None:
    """Answer an Allocate request for known devices, or refuse it in one line."""
    request = _parsed(api.ContainerAllocateRequest(), data)
    handouts = (Handout(), Handout(tuple(DeviceListStrategy), pass_device_specs=True))
    for seen in (SHARED, WHOLE, MPS):
        for handout in handouts:
            unknown = set(request.devices_ids) - seen.replicas.keys()
            with contextlib.suppress(response.RefusedError):
                response.allocate(seen, handout, request.devices_ids).SerializeToString()
                assert not unknown


def _parsed(into: M, data: bytes) -> M:
    with contextlib.suppress(DecodeError):
        into.ParseFromString(data)
    return into


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        accept,
        allocate,
        api_lines,
        api_node,
        bus,
        cdi_output,
        channel,
        configuration,
        control_socket,
        holders,
        host,
        kernel_line,
        ledger,
        live_node,
        log_line,
        mig_minors,
        names,
        node,
        options,
        pod_resources,
        preferred,
        probe,
        processes,
        resource_config,
        status_answer,
        xid_lists,
    )
}


def kept(target: str) -> Iterator[Path]:
    """Yield the saved inputs of a target."""
    folder = Path(__file__).with_name("regressions") / target
    if folder.is_dir():
        yield from sorted(folder.iterdir())
