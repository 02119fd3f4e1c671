"""Usage in the terminal."""

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from supervisor.commands.show_status import joined, show
from supervisor.commands.watch_status import fitting
from supervisor.status import usage_wording
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import status
from supervisor.status.usage_owner import Owners
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse
from tests.fakes import showcase

NOW, WALL = 1000.0, 1_700_000_000.0
KNOWN = showcase.snapshot(NOW, WALL)
GIB = 1 << 30


def printed(known: Snapshot = KNOWN, width: int = 80) -> list[str]:
    """Return the lines that a terminal of this width shows."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    show(status(known, showcase.ABOUT, NOW, WALL), console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def rows(lines: list[str], head: str) -> list[str]:
    """Return the lines of the table below *head*, with single spaces."""
    plain = [" ".join(line.split()) for line in lines]
    start = plain.index(head) + 1
    return plain[start : plain.index("", start)]


def test_a_simulated_driver_is_marked() -> None:
    """A node whose GPUs are simulated does not look like a real one."""
    assert printed()[1].startswith("driver 580.95.05 (simulated), platform nvml, live: yes")


def test_a_question_has_no_full_stop() -> None:
    """What is wrong and the advice are sentences, also if the first one is a question."""
    assert joined("is it running?", "Look.") == "is it running? Look."
    assert joined("fatal Xid: 79", "Reboot.") == "fatal Xid: 79. Reboot."


def test_usage_of_each_device() -> None:
    """There is a line for each GPU and MIG instance; what the driver does not tell is empty."""
    found = rows(printed(), "GPU utilization memory temperature power")
    assert len(found) == 8 + 3
    assert found[0] == "0 58 % 25.0 of 79.6 GiB 55 °C 429 of 700 W"
    assert found[2] == "2 unknown"
    assert found[7] == "7 59.5 of 79.6 GiB 50 °C 314 of 700 W"
    assert found[10] == "7:2 11.0 of 39.8 GiB"


def test_who_uses_what() -> None:
    """Those who use the most memory come first, of all GPUs; others are named for what they are."""
    found = rows(printed(width=140), "GPU memory utilization used by")
    assert found[0] == "6 ! 22.4 of 19.9 GiB 35 % research/vision-serving-6c9f7d5b8-x2lqk/main"
    assert found[1] == "0 18.0 of 19.9 GiB 61 % research/notebook-anna/main"
    stray = "unallocated: research/scratch-5d9f/main, uses the GPU, but holds no device of it"
    assert f"3 9.0 GiB 12 % {stray}" in found
    assert "4 2.0 GiB 0 % unknown: processes whose container is unknown" in found
    assert found[-1] == "0 412 MiB 0 % host: processes outside containers"


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_tables_fit_the_terminal(width: int) -> None:
    """No line is longer than the terminal is wide, and no name is one letter a line."""
    lines = printed(width=width)
    assert max(map(len, lines)) <= width
    assert len(lines) < 90
    assert any(showcase.UUIDS[0] in line for line in lines) is (width >= 120)


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    """On a very narrow terminal the names of all users are still there."""
    text = "".join(part for line in printed(width=50) for part in line.split())
    assert "scratch-5d9f" in text


def test_without_samples() -> None:
    """Without samples there is no table of usage."""
    lines = printed(dataclasses.replace(KNOWN, usage=None), 140)
    assert not [line for line in lines if "utilization" in line or "used by" in line]


def test_without_containers() -> None:
    """When containers are unknown, one line says why."""
    assert KNOWN.usage
    usage = dataclasses.replace(KNOWN.usage, owners=Owners(problem="switched off\x1b"))
    lines = printed(dataclasses.replace(KNOWN, usage=usage), 140)
    assert r"- Usage by container is unknown: switched off\x1b" in lines


@pytest.mark.parametrize(
    ("used", "total", "text"),
    [
        (None, None, "unknown"),
        (0, None, "0 MiB"),
        (0, GIB, "0 of 1.0 GiB"),
        (GIB - 1, GIB, "1023 MiB of 1.0 GiB"),
        (GIB, 8 * GIB, "1.0 of 8.0 GiB"),
        (3 << 20, 5 << 20, "3 of 5 MiB"),
        (None, GIB, "unknown of 1.0 GiB"),
        (2 * GIB, 1 << 20, "2.0 GiB of 1 MiB"),
    ],
)
def test_amounts(used: int | None, total: int | None, text: str) -> None:
    """Amounts have their unit, once if it is the same."""
    assert usage_wording.of(used, total) == text


def use(**fields: Any) -> DeviceUse:
    """Return a use of which nothing else is known."""
    return DeviceUse(**{**dict.fromkeys(DeviceUse.__struct_fields__), **fields})


def test_figures_in_words() -> None:
    """A figure that is unknown has no text."""
    assert usage_wording.power(use(power_watts=61.4)) == "61 W"
    assert usage_wording.power(use(power_limit_watts=700.0)) == ""
    assert usage_wording.memory(use(memory_total_bytes=GIB)) == ""
    assert usage_wording.temperature(use()) == usage_wording.leak(use(leaked_bytes=0)) == ""
    whole = "2.0 GiB in use, although no container holds this device"
    assert usage_wording.leak(use(leaked_bytes=2 * GIB)) == whole


def test_a_container_whose_name_is_unknown() -> None:
    """A container without a name is shown by its pod."""
    assert usage_wording.name(HolderUse(kind=HolderKind.CONTAINER, namespace="n", pod="p")) == "n/p"


@pytest.mark.parametrize(
    ("lines", "height", "shown"),
    [(3, 4, 3), (3, 3, 1), (30, 10, 8), (30, 1, 1), (0, 5, 0)],
)
def test_what_fits_a_terminal(lines: int, height: int, shown: int) -> None:
    """What does not fit is counted in the last line, above the cursor."""
    drawn = "".join(f"line {n}\n" for n in range(lines))
    kept = fitting(drawn, height).split("\n")
    assert [line for line in kept if line.startswith("line")] == [f"line {n}" for n in range(shown)]
    if shown < lines:
        assert kept[-2].startswith(f"... {lines - shown} more lines: ")
        assert len(kept) <= max(height, 3)
