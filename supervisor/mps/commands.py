"""The commands of nvidia-cuda-mps-control that a keeper sends, and what their answers mean.

The daemon exits with 0 after every command that has reached it, so the answer alone tells whether
it was understood; see docs/hardware-notes.md for what was seen.
"""

from collections.abc import Iterable

import msgspec

from proto.mps import MpsClient, MpsShare, ServerStatus
from proto.texts import NAME_LIMIT, shortened

MEBIBYTES_OF_A_GIBIBYTE = 1024

COLUMNS = 6
"""PID, ID, SERVER, DEVICE, NAMESPACE, COMMAND; the command may contain spaces."""

TITLE, NO_SERVER = "PID", "Server not found"
"""What `ps` prints besides a line for each client."""

SHOWN_CLIENTS = 8
"""Most clients that are named in a detail."""


class ClientLimits(msgspec.Struct, frozen=True):
    """What each client of a daemon may use at most."""

    memory_mib: int | None = None
    threads: int | None = None
    """Percent of the multiprocessors; None: no limit."""


class Readings(msgspec.Struct, frozen=True):
    """Limits as a daemon or a server writes them."""

    threads: str
    memory: str


def limits(share: MpsShare) -> ClientLimits:
    """Return the limits that the daemon has; without *single*, the containers have their own."""
    return ClientLimits(share.memory_mib, share.threads) if share.single else ClientLimits()


def settings(wanted: ClientLimits, uuid: str) -> tuple[str, ...]:
    """Return the commands that set limits as the defaults of a new daemon."""
    commands = []
    if wanted.threads is not None:
        commands.append(f"set_default_active_thread_percentage {wanted.threads}")
    if wanted.memory_mib is not None:
        commands.append(f"set_default_device_pinned_mem_limit {uuid} {wanted.memory_mib}M")
    return tuple(commands)


def readings(wanted: ClientLimits) -> Readings:
    """Return how a daemon writes these limits: from 1 GiB on, memory in whole GiB."""
    threads = float(100 if wanted.threads is None else wanted.threads)
    memory = ""
    if wanted.memory_mib is not None:
        gibibytes = wanted.memory_mib // MEBIBYTES_OF_A_GIBIBYTE
        memory = f"{gibibytes}G" if gibibytes else f"{wanted.memory_mib}M"
    return Readings(f"{threads:.1f}", memory)


def difference(found: Readings, wanted: ClientLimits) -> str:
    """Return what is wrong with limits that were read; empty: nothing."""
    right = readings(wanted)
    if found.threads != right.threads:
        return f'its thread percentage is "{found.threads}" instead of {right.threads}'
    if found.memory != right.memory:
        return f'its memory limit is "{found.memory}" instead of "{right.memory}"'
    return ""


def server(answer: str) -> int | None:
    """Return the PID that `get_server_list` answered, 0 for none; None: it is no such answer."""
    pids = answer.split()
    if not all(pid.isdecimal() for pid in pids):
        return None
    return int(pids[0]) if pids else 0


def lacks(answer: str, server: int) -> bool:
    """Return whether the daemon answered that it has no such server."""
    return answer.strip() == f"Server {server} not found"


def status(answer: str) -> ServerStatus | None:
    """Return what `get_server_status` answered; None: the server is gone, or it is unknown."""
    try:
        return ServerStatus(answer.strip())
    except ValueError:
        return None


def clients(answer: str) -> tuple[MpsClient, ...] | None:
    """Return the clients in the answer of `ps`, each process once, by PID; None: it is no such.

    A client counts whatever else its line says: a daemon with few rights knows only its PID.
    """
    found: dict[int, MpsClient] = {}
    for line in answer.splitlines():
        words = line.split(maxsplit=COLUMNS - 1)
        if not words or words[0] == TITLE or line.strip() == NO_SERVER:
            continue
        if not words[0].isdecimal():
            return None
        pid = int(words[0])
        command = words[-1].strip() if len(words) == COLUMNS else ""
        found[pid] = MpsClient(pid, shortened(command, NAME_LIMIT))
    return tuple(found[pid] for pid in sorted(found))


def named(of: Iterable[MpsClient]) -> str:
    """Return clients in words, for people."""
    known = list(of)
    shown = [
        f"{client.pid} ({client.command})" if client.command else str(client.pid)
        for client in known[:SHOWN_CLIENTS]
    ]
    more = len(known) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
