"""What nvidia-cuda-mps-control 580.159.04 writes, and how it writes numbers.

Seen on an H100: `tests/hardware/mps-580.159.04.txt`.
"""

import re
import time

VERSION = (
    "CUDA MPS Control for Linux/Unix/QNX. Binary version: 13000\n"
    "Copyright (C) 2003 - 2025 NVIDIA Corporation.\n\n"
)
NO_DAEMON = "Cannot find MPS control daemon process\n"
RUNNING = "An instance of this daemon is already running\n"
NO_LIMIT = "No default pinned memory limit set for the device!"
BAD_PERCENTAGE = "Invalid percentage, expected between (0.0, 100.0]"
BAD_FORMAT = "Invalid command format."
NO_PID = "A server PID is required"
NO_UID = "A user id (UID) is required to start a new server"

ALL = 100
"""Percent."""

ORDINAL = re.compile(r"\d+")
UUID = re.compile(r"(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LIMIT = re.compile(r"(\d*)(.?)", re.DOTALL)

PROCESSES = ("PID", "ID", "SERVER", "DEVICE", "NAMESPACE", "COMMAND")
WIDTHS = (10, 10, 15, 26, 15, 15)
DEVICES = ("Device Ordinal", "PCI IDs", "UUID", "Name", "Attributes")
DEVICE_WIDTHS = (16, 15, 42, 34, 0)


def log_line(who: str, pid: int, text: str) -> bytes:
    """Return a line of the log; *who* is Control, Server or Other."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"[{stamp}.{int(now * 1000) % 1000:03} {who} {pid:5}] {text}\n".encode()


def percentage(text: str) -> str | None:
    """Return a percentage as the daemon writes it; None: it refuses this one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return f"{number:.1f}" if 0 < number <= ALL else None


def mebibytes(text: str) -> int:
    """Return the MiB that the daemon takes a memory limit for; 0 is no limit.

    It reads an integer, and G if that comes next: 1.5G is 1 MiB. It refuses nothing that was tried.
    """
    digits, unit = LIMIT.findall(text)[0]  # the expression matches everything
    return int(digits or 0) << (10 if unit in ("G", "g") else 0)


def limit(mebibytes: int) -> str:
    """Return a memory limit as the daemon writes it: from 1 GiB on, rounded down to whole GiB."""
    return f"{mebibytes >> 10}G" if mebibytes >> 10 else f"{mebibytes}M"


def lines(answer: str) -> list[str]:
    """Return what the daemon logs of an answer; it logs an empty line together with the next."""
    return [text for text in re.split(r"(?<!\n)\n", answer) if text]


def is_device(text: str) -> bool:
    """Return whether the daemon takes this for an ordinal or a UUID; it need not exist."""
    return bool(ORDINAL.fullmatch(text) or UUID.fullmatch(text))


def row(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    """Return a line of a table."""
    return "".join(f"{cell:{width or ''}}" for cell, width in zip(cells, widths, strict=True))


def device_table(title: str, gpus: list[tuple[str, str, str]], *, comma: bool) -> str:
    """Return a table of GPUs: UUID, name and PCI address of each."""
    lines = [title]
    rows = [DEVICES]
    for ordinal, (uuid, name, pci) in enumerate(gpus):
        domain, bus, place = pci.split(":")
        device, function = place.split(".")
        rows.append((str(ordinal), f"{domain}:{bus}.{device}.{function:0>2}", uuid, name, "N/A"))
    lines += [",".join(cells) if comma else row(cells, DEVICE_WIDTHS) for cells in rows]
    return "\n".join(lines) + "\n"
