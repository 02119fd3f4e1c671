"""The words for the sharing of a device by MPS, the same on the page and in the terminal."""

from proto.mps import Phase
from supervisor.status.mps_report import MpsClientStatus, MpsStatus
from supervisor.status.report import DeviceStatus, GpuStatus
from supervisor.status.usage_wording import MIB, devices, size
from supervisor.status.wording import UNKNOWN

SIGNS = {Phase.READY: "✓", Phase.STARTING: "↻", Phase.DRAINING: "↻"}
"""The sign beside a phase; `✗` for all other phases, `?` for none."""


def shared(gpu: GpuStatus) -> list[tuple[str, DeviceStatus, MpsStatus]]:
    """Return the GPU and its MIG instances that MPS shares, each with its name."""
    return [(name, device, device.mps) for name, device in devices(gpu) if device.mps]


def sign(mps: MpsStatus) -> str:
    """Return the sign beside the phase of the daemon."""
    return SIGNS.get(mps.phase, "✗") if mps.phase else "?"


def phase(mps: MpsStatus) -> str:
    """Return what is being done with the daemon."""
    return mps.phase or UNKNOWN


def server(mps: MpsStatus) -> str:
    """Return the state of the MPS server in words."""
    if mps.phase is None:
        return UNKNOWN
    if mps.server_pid is None:
        return "none"
    return mps.server_status.lower() if mps.server_status else UNKNOWN


def limits(mps: MpsStatus) -> str:
    """Return what a replica comes to."""
    memory = "" if mps.memory_limit_mib is None else size(mps.memory_limit_mib * MIB)
    threads = "" if mps.threads_percent is None else f"{mps.threads_percent} % of the SMs"
    return ", ".join(text for text in (memory, threads) if text) or "no limit"


def whose(client: MpsClientStatus) -> str:
    """Return the container of a client; `unknown`: nobody can tell."""
    parts = (client.namespace, client.pod, client.container)
    return "/".join(part for part in parts if part) or UNKNOWN


def process(client: MpsClientStatus) -> str:
    """Return the program of a client, and its PID."""
    return f"{client.command} (PID {client.pid})" if client.command else f"PID {client.pid}"


def clients(mps: MpsStatus) -> str:
    """Return how many clients there are."""
    if mps.clients is None:
        return "clients unknown"
    return "1 client" if len(mps.clients) == 1 else f"{len(mps.clients)} clients"
