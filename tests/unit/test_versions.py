"""The versions of the NVML library and of the kernel module."""

from pathlib import Path

import pytest

from health import versions
from health.versions import Versions

MAPS = """\
55d0c0a00000-55d0c0a01000 r--p 00000000 fe:01 1311 /usr/bin/python3.11
7f1b2c000000-7f1b2c100000 r-xp 00001000 fe:01 2622 /usr/lib/x86_64-linux-gnu/{}
7f1b2c100000-7f1b2c200000 rw-p 00101000 fe:01 2622 /usr/lib/x86_64-linux-gnu/{}
7ffd0a000000-7ffd0a001000 r-xp 00000000 00:00 0    [vdso]
"""
CLOSED = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Sep 23 10:11:16 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)
"""
OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22-I3)
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)
"""


def seen(folder: Path, maps: str | None, module: str | None) -> Versions:
    """Return the versions that are read from files with these texts; None: there is no file."""
    for path, text in (("self/maps", maps), ("driver/nvidia/version", module)):
        if text is not None:
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text(text)
    return versions.read(folder)


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("libnvidia-ml.so.580.95.05", "580.95.05"),
        ("libnvidia-ml.so.470.256.02", "470.256.02"),
        ("libnvidia-ml.so.390.157", "390.157"),
        ("libnvidia-ml.so.570.133.20 (deleted)", "570.133.20"),
        ("libnvidia-ml.so.1", ""),
        ("libnvidia-ml.so.580.95.05.bak", ""),
        ("libcuda.so.580.95.05", ""),
        ("my-libnvidia-ml.so.580.95.05", ""),
    ],
)
def test_the_library_is_the_one_in_use(tmp_path: Path, file: str, version: str) -> None:
    """The library's version is in the name of the file that the process has loaded."""
    assert seen(tmp_path, MAPS.format(file, file), None) == Versions(version, "")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (CLOSED.format("580.95.05"), "580.95.05"),
        (OPEN.format("580.95.05"), "580.95.05"),
        (CLOSED.format("390.157").replace("x86_64", "aarch64"), "390.157"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05", "580.95.05"),
        ("GCC version:  gcc version 12.2.0\n", ""),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module\nGCC version:  12.2.0\n", ""),
        ("", ""),
    ],
)
def test_the_module_tells_its_version(tmp_path: Path, text: str, version: str) -> None:
    """The closed and the open kernel module both tell their version in the line of NVRM."""
    assert seen(tmp_path, None, text) == Versions("", version)


@pytest.mark.parametrize(
    ("library", "module", "older"),
    [
        ("570.133.20", "580.95.05", True),
        ("580.65.06", "580.95.05", True),
        ("580.95.05", "580.105.08", True),
        ("99.10", "580.95.05", True),
        ("580.95", "580.95.05", True),
        ("580.95.05", "580.95.05", False),
        ("590.44.01", "580.95.05", False),
        ("580.105.08", "580.95.05", False),
        ("", "580.95.05", False),
        ("570.133.20", "", False),
        ("", "", False),
    ],
)
def test_older_is_by_number_and_known(library: str, module: str, *, older: bool) -> None:
    """The library is older only if both versions are known; each part is compared as a number."""
    assert Versions(library, module).library_is_older is older


def test_files_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    """A file that cannot be read, or that has other bytes than text, tells no version."""
    (tmp_path / "self/maps").mkdir(parents=True)
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").write_bytes(b"\xff\x00NVRM version: \xfe")
    assert versions.read(tmp_path) == Versions("", "")
