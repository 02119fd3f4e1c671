"""What nvidia-cuda-mps-control 580.159.04 writes, and how it writes numbers.

Seen on an H100; `tests/hardware/mps-580.159.04.txt` marks what was not.
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

ORDINAL = re.compile(r"\d+")
UUID = re.compile(r"(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LIMIT = re.compile(r"(\d+)([GM])")

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
    return f"{number:.1f}" if 0 < number <= 100 else None


def limit(text: str) -> str | None:
    """Return a memory limit as the daemon writes it; None: it refuses this one."""
    if not (found := LIMIT.fullmatch(text)):
        return None
    number, unit = int(found[1]), found[2]
    return f"{number // 1024}G" if unit == "M" and number % 1024 == 0 else f"{number}{unit}"


def mebibytes(written: str) -> int:
    """Return the MiB of a memory limit."""
    number = int(written[:-1])
    return number << 10 if written.endswith("G") else number


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
