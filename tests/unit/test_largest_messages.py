"""The largest legal configuration, on the largest node, goes through every message."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proto.channel import Channel, Sent
from proto.control import (
    Configure,
    Hung,
    Inventoried,
    NotReady,
    Order,
    ProcessState,
    Report,
    Unknown,
)
from proto.messages import (
    RPC_BUCKETS,
    DeviceHealth,
    FailedGpu,
    Inventory,
    NodeState,
    RpcStats,
    WorkerState,
    XidCount,
    decode,
    encode,
)
from proto.reasons import Reason, ReasonKind
from proto.texts import TEXT_LIMIT, shortened
from proto.worker import WorkerSettings
from supervisor.compose import compose
from supervisor.config import check_paths, check_values, file_schema, sharing
from supervisor.config.check_values import LONGEST_PATTERN, LONGEST_PREFIX
from supervisor.config.file_schema import Configuration
from supervisor.config.naming import DOMAIN
from supervisor.config.naming import LIMIT as LONGEST_NAME
from supervisor.config.settings import Settings, load
from supervisor.state import Served, Service
from supervisor.systemd import LIMIT as LONGEST_STATUS
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu

GPUS, INSTANCES = 64, 7
STATE_LIMIT = 64 << 10
"""Bytes of the longest state that the exporter gets each second, of a node with 64 resources."""

HANDOUT_LIMIT = 8 << 10
"""Bytes of what a worker gets besides its devices; a path of 4 KiB is the longest part."""

COUNTS = st.sampled_from([0, 1, 9, 3000])
"""How long a list is; 3,000 entries are more than a file has room for."""

CHARACTERS = ("a", "ü", "\U0001f600", "\n", "\\", '"')


def _text(most: int) -> st.SearchStrategy[str]:
    """Draw a text of *most* bytes, or of one."""
    fill = st.sampled_from(CHARACTERS).map(lambda c: c * (most // len(c.encode())))
    return fill | st.sampled_from(CHARACTERS)


def _path() -> st.SearchStrategy[str]:
    """Draw a path that is as long as Linux allows."""
    part = st.sampled_from(["d", "ü"]).map(lambda c: "/" + c * (250 // len(c.encode())))
    return part.map(lambda p: p * (check_paths.PATH_LIMIT // len(p.encode())))


def _name(place: int, length: int = LONGEST_NAME - len(DOMAIN)) -> str:
    return f"r{place}-".ljust(length, "x")


devices = st.one_of(
    st.just("all"),
    st.integers(1, 10**9),
    COUNTS.map(lambda n: [10**8 + place for place in range(n + 1)]),
    COUNTS.map(lambda n: [f"MIG-{gpu_uuid(place)}/7/0" for place in range(n + 1)]),
)
entries = st.lists(devices, max_size=12).map(
    lambda found: [
        {"name": name, "replicas": 2 + place, "devices": which, "rename": _name(place)}
        for name in ("gpu", _name(0), _name(1), "mig-1g.10gb")
        for place, which in enumerate(d for d in found if d != "all")
    ]
)
absent = COUNTS.map(
    lambda n: [{"name": _name(10_000 + place), "replicas": 2} for place in range(n)]
)
patterns = st.integers(0, GPUS).flatmap(
    lambda n: _text(LONGEST_PATTERN).map(
        lambda long: [
            *({"pattern": f"GPU {place}", "name": _name(place)} for place in range(n)),
            {"pattern": long, "name": _name(99)},
        ]
    )
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the content of a configuration file whose texts and lists are at their bounds."""
    content: dict[str, Any] = {
        "flags": {
            "migStrategy": draw(st.sampled_from(["none", "mixed", "single"])),
            "nvidiaDevRoot": draw(_path()),
            "plugin": {
                "cdiAnnotationPrefix": draw(_text(LONGEST_PREFIX)),
                "deviceListStrategy": ["envvar", "cdi-cri", "cdi-annotations"] * 3000,
            },
        },
        "resources": {"gpus": draw(patterns), "mig": draw(patterns)},
    }
    if shares := draw(entries) + draw(absent):
        content["sharing"] = {"timeSlicing": {"resources": shares}}
        if draw(st.booleans()):
            content["sharing"] = {"mps": {"onMig": True, "resources": shares}}
    return content


def _settings(content: dict[str, Any]) -> Settings:
    """Return the settings as of a file; YAML would take most of the time."""
    wanted = msgspec.convert(content, Configuration, dec_hook=file_schema.decode)
    check_values.check(wanted)
    check_paths.check_flags(wanted.flags)
    shares = sharing.from_file(wanted.sharing)
    return replace(load({}, {}), configuration=wanted, shares=shares)


def _node(mig: int, fill: str) -> Inventory:
    """Return the largest node; its first *mig* GPUs are in MIG mode."""
    gpus = [
        mig_gpu(place, *["1g.10gb"] * INSTANCES, name=f"GPU {place}")
        if place < mig
        else gpu(place, name=f"GPU {place}")
        for place in range(GPUS)
    ]
    failed = tuple(FailedGpu(place, fill * 100) for place in range(8))
    return inventory(*gpus, failed=failed, nodes=("/dev/nvidiactl",) * 8)


def _messages(service: Service, node: Inventory, text: str) -> Iterator[Order | Report]:
    """Yield each message that depends on the configuration or the node, as the loop makes it."""
    planned = service.plan(node)
    specs = [service.worker(resource) for resource in planned.resources]
    for spec in specs:
        assert isinstance(spec.settings, WorkerSettings)
        assert len(msgspec.msgpack.encode(spec.settings.handout)) <= HANDOUT_LIMIT
        yield Configure(spec.settings.plan, spec.settings.handout, spec.settings.stale_after)
    unknown = Unknown(Reason(ReasonKind.NO_DRIVER, text), 1)
    served = Served(
        plans=dict(zip([spec.name for spec in specs], planned.resources, strict=True)),
        problems=planned.problems,
        notices=planned.notices,
        not_ready={spec.name: text for spec in specs},
        unknown=unknown,
    )
    assert len(shortened(served.status()).encode()) <= LONGEST_STATUS
    assert len(shortened(replace(served, not_ready={}).status()).encode()) <= LONGEST_STATUS
    names = [spec.name for spec in (*service.children, *specs)]
    state = served.state(tuple(ProcessState(name, "running", 10**9, 2**31) for name in names))
    assert len(msgspec.msgpack.encode(state)) <= STATE_LIMIT
    yield from (state, unknown, Inventoried(node), NotReady(text), Hung(text))


def _states(service: Service, node: Inventory, text: str) -> Iterator[NodeState | WorkerState]:
    """Yield what goes over the bus."""
    health = tuple(DeviceHealth(g.uuid, (Reason(ReasonKind.CDI_SPEC, text),)) for g in node.gpus)
    xids = tuple(XidCount(g.uuid, xid, 2**31) for g in node.gpus for xid in range(100))
    yield NodeState(epoch=1, sequence=1, inventory=node, health=health, xids=xids)
    for resource in service.plan(node).resources:
        yield WorkerState(
            epoch=1,
            sequence=1,
            resource=resource.resource,
            registered=True,
            registrations=1,
            streams=1,
            healthy=resource.replicas,
            unhealthy=0,
            replicas={device.uuid: device.replicas for device in resource.devices},
            rpcs=(RpcStats("Allocate", (2**40,) * len(RPC_BUCKETS), 1e9),),
        )


@settings(deadline=None, max_examples=40)
@given(configurations(), st.integers(0, GPUS), st.sampled_from(CHARACTERS))
def test_the_largest_configuration_fits_into_every_message(
    content: dict[str, Any], mig: int, fill: str
) -> None:
    """Each message arrives as it was sent, and no text grows with the configuration."""
    service, node = compose(_settings(content)), _node(mig, fill)
    text = shortened(fill * TEXT_LIMIT)
    here, there = Channel.pair()
    with contextlib.closing(here), contextlib.closing(there):
        for message in _messages(service, node, text):
            assert here.send(message) is Sent.TAKEN
            assert there.receive() == message
    for state in _states(service, node, text):
        assert decode(encode(state)) == state
