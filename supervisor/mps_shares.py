"""What a replica of a device that MPS shares comes to, and which devices MPS cannot share."""

import re

from proto.mps import MpsShare
from proto.names import ALL
from supervisor.config.file_schema import Portion
from supervisor.config.sharing import ALL_THREADS, MpsLimits

LEAST_CAPABILITY = (7, 0)
"""Before it, all clients are in one address space, and no limit holds."""

MOST_CLIENTS = 48
"""Clients of one device, as NVIDIA's documentation says."""

MOST_CLIENTS_LATER, LATER = 60, 590
"""The same from this driver release on."""

TOLERATED = 10
"""Percent of the multiprocessors that may be left unused without a word."""


def most_replicas(driver_version: str) -> int:
    """Return how many clients a device may have; of an unknown driver, as of an old one.

    On a MIG instance it is fewer, in proportion to the instance; NVIDIA does not say how many.
    """
    release = re.match(r"\d{1,9}", driver_version)
    return MOST_CLIENTS_LATER if release and int(release[0]) >= LATER else MOST_CLIENTS


def refusal_on_platform(toolkit_id: str) -> str:
    """Return why MPS cannot share a device for which the toolkit has this ID; empty: it can."""
    return "WSL2 has no MPS; use sharing.timeSlicing" if toolkit_id == ALL else ""


def refusal(limits: MpsLimits, *, instance: bool, mig_enabled: bool, capability: str | None) -> str:
    """Return why MPS cannot share a device, whatever its number of replicas; empty: it can.

    *instance*: it is a MIG instance; *mig_enabled*: its GPU is in MIG mode.
    """
    if instance and not limits.on_mig:
        return "a MIG instance has a daemon of its own only with sharing.mps.onMig: true"
    if mig_enabled and not instance:
        return (
            "in MIG mode only MIG instances can be shared; set the MIG strategy to single or "
            "mixed, or switch MIG mode off"
        )
    version = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", capability or "")
    if version is None:
        return "the driver does not report the compute capability; use sharing.timeSlicing"
    if (int(version[1]), int(version[2])) < LEAST_CAPABILITY:
        return f"compute capability {capability} is below 7.0; use sharing.timeSlicing"
    return ""


def refused_replicas(limits: MpsLimits, replicas: int, memory_mib: int | None, most: int) -> str:
    """Return why a device that MPS can share cannot have so many *replicas*; empty: it can.

    *memory_mib*: of the device; None or 0: unknown.
    """
    if replicas > most:
        return f"with this driver a device may have at most {most} replicas; write fewer"
    if limits.memory is Portion.SHARE and 0 < (memory_mib or 0) < replicas:
        return "a replica would get less than 1 MiB; write fewer replicas"
    return ""


def share_of(limits: MpsLimits, replicas: int, memory_mib: int | None) -> MpsShare:
    """Return what one of *replicas* comes to; without a known memory, there is no share of it."""
    memory: int | None
    match limits.memory:
        case Portion.SHARE:
            memory = (memory_mib or 0) // replicas or None
        case Portion.NONE:
            memory = None
        case memory:
            pass
    return MpsShare(memory, threads_of(limits, replicas), limits.single, limits.root)


def threads_of(limits: MpsLimits, replicas: int) -> int | None:
    """Return the percent of the multiprocessors for one of *replicas*; None: no limit."""
    match limits.threads:
        case Portion.SHARE:
            return max(1, ALL_THREADS // replicas)
        case Portion.NONE:
            return None
        case percent:
            return percent


def unused(limits: MpsLimits, replicas: int) -> int:
    """Return the percent of the multiprocessors that equal shares leave unused by rounding."""
    if limits.threads is not Portion.SHARE:
        return 0
    return max(0, ALL_THREADS - replicas * (threads_of(limits, replicas) or 0))
