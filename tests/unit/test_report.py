"""The JSON of /status, which users' scripts read."""

from collections.abc import Iterator

import msgspec
from msgspec import inspect

from supervisor.exporter.pages import render, shown
from supervisor.status import report
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage_history import History
from tests.fakes import showcase

USE = (
    "utilization_percent memory_utilization_percent memory_used_bytes memory_total_bytes "
    "memory_reserved_bytes temperature_celsius power_watts power_limit_watts sm_clock_mhz "
    "memory_clock_mhz leaked_bytes holders"
)
HOLDER = (
    "kind namespace pod container resource held processes memory_used_bytes memory_share_bytes "
    "utilization_percent"
)
MPS = (
    "phase detail since pid server_pid server_status restarts memory_limit_mib threads_percent "
    "one_replica clients"
)
CLIENT = "pid command namespace pod container"
FIELDS = {
    "": "time version ok node gpus strays resources processes configuration xids usage",
    "node.": "driver_version backend maintenance live ready problems passthrough failed persisted "
    "driver_hangs hanging notices name hostname platform platform_evidence",
    "node.hanging.": "call index uuid seconds",
    "node.live.": "ok problems",
    "node.ready.": "ok problems",
    "node.problems.": "kind text fatal",
    "node.passthrough.": "pci_bus_id driver",
    "node.failed.": "index error",
    "gpus.": "uuid state healthy reasons since transitions usage mps remedy advice index model "
    "pci_bus_id numa_node memory_mib unified_memory recovery_action licensed check_seconds "
    "monitoring mig instances resources holders dra_holders grey",
    "gpus.grey.": "kind detail text advice",
    "gpus.reasons.": "kind detail text advice",
    "gpus.instances.": "uuid state healthy reasons since transitions usage mps remedy advice place "
    "gpu_instance compute_instance profile memory_mib",
    "gpus.instances.reasons.": "kind detail text advice",
    "gpus.resources.": "resource advertised used unhealthy",
    "gpus.usage.": USE,
    "gpus.usage.holders.": HOLDER,
    "gpus.mps.": MPS,
    "gpus.mps.clients.": CLIENT,
    "gpus.instances.mps.": MPS,
    "gpus.instances.mps.clients.": CLIENT,
    "gpus.instances.usage.": USE,
    "gpus.instances.usage.holders.": HOLDER,
    "gpus.holders.": "namespace pod container resource uuid device",
    "gpus.dra_holders.": "namespace pod container claim driver pool device uuids match advertised",
    "strays.": "namespace pod container resource uuid device",
    "resources.": "name devices healthy unhealthy allocated registered registrations streams "
    "answering sharing",
    "processes.": "name state restarts pid",
    "configuration.": "hash loaded problem",
    "xids.": "uuid xid name count last",
    "usage.": "interval received problem",
}
"""Add fields only: to remove or rename a field breaks users' scripts."""


def fields(kind: inspect.Type, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each object in the JSON, with the names of its fields."""
    match kind:
        case inspect.StructType(fields=own):
            yield path, " ".join(field.encode_name for field in own)
            for field in own:
                yield from fields(field.type, f"{path}{field.encode_name}.")
        case inspect.UnionType(types=types):
            for member in types:
                yield from fields(member, path)
        case inspect.VarTupleType(item_type=item):
            yield from fields(item, path)
        case _:
            pass


def test_the_names_of_the_fields() -> None:
    """The JSON has exactly these fields."""
    assert dict(fields(inspect.type_info(report.Status))) == FIELDS


def test_every_field_is_always_present() -> None:
    """A field whose value is unknown is null, and never missing."""
    told = msgspec.json.decode(render("/status", Snapshot(), showcase.ABOUT, History()))
    assert list(told) == FIELDS[""].split()
    assert list(told["node"]) == FIELDS["node."].split()
    assert {name for name, value in told.items() if value is None} == {
        "gpus",
        "strays",
        "resources",
        "processes",
        "configuration",
        "xids",
        "usage",
    }


def test_the_json_of_a_busy_node() -> None:
    """The JSON of a busy node can be read back, with all GPUs and the names of reasons."""
    body = render("/status", showcase.snapshot(50.0, 1_700_000_000.0), showcase.ABOUT, History())
    told = msgspec.json.decode(body)
    read = msgspec.json.decode(body, type=report.Status)
    assert msgspec.json.encode(read) == body.rstrip()
    assert dict(shown("/status", body).headers)["Content-Type"] == "application/json"
    assert [gpu["index"] for gpu in told["gpus"]] == list(range(8))
    assert {reason["kind"] for gpu in told["gpus"] for reason in gpu["reasons"]} >= {
        "gpu-lost",
        "xid",
    }
