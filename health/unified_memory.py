"""The memory of a GPU that has none of its own, such as GB10: it uses the memory of the machine."""

import re
from pathlib import Path

TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def mib_of_machine(procfs: Path) -> int | None:
    """Return the memory of the machine in MiB; None: the kernel does not tell."""
    try:
        match = TOTAL.search((procfs / "meminfo").read_text(errors="replace"))
    except OSError:
        return None
    return (int(match[1]) >> 10 or None) if match else None
