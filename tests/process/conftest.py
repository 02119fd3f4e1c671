"""Fixtures for the process tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.service import short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a new folder with a short path for each test."""
    with short_folder() as path:
        yield path


@pytest.fixture(scope="session")
def library() -> Iterator[Path]:
    """Build the stand-in for NVIDIA's NVML library once in each process that runs tests."""
    with short_folder() as path:
        yield nvml_library.build(path)
