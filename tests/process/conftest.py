"""Fixtures for the process tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import forked, nvml_library
from tests.fakes.service import short_folder
from tests.fakes.toolkit import Host


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a new folder with a short path for each test."""
    with short_folder() as path:
        yield path


@pytest.fixture(scope="session")
def library() -> Iterator[Path]:
    """Build the stand-in for NVIDIA's NVML library once in each process that runs tests.

    Services with this library are forked, too, from a zygote whose loader finds it.
    """
    with short_folder() as path:
        built = nvml_library.build(path)
        with forked.zygote(LD_LIBRARY_PATH=str(path)):
            yield built


@pytest.fixture
def host(folder: Path) -> Host:
    """Make a new stand-in host for NVIDIA's Container Toolkit for each test."""
    return Host(folder)


@pytest.fixture
def hung(host: Host) -> Iterator[int]:
    """Open a pipe to which a hanging nvidia-ctk writes, and which closes when it has ended."""
    descriptor = os.open(host.fifo, os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(scope="session", autouse=True)
def _zygote() -> Iterator[None]:
    with forked.zygote():
        yield
