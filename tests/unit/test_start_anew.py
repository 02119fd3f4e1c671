"""What a node without a GPU takes back at its start, and when it needs a process for that."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger
from msgspec.structs import replace

from proto.cluster import ClusterSettings
from proto.labels import LabelOutput, LabelSettings
from supervisor.child import Spec
from supervisor.start_anew import take_back

TOLD = ClusterSettings(
    health_bus="", mps_bus="", node="a", events=True, condition=False, label="b", stale_after=10.0
)
IN_FILE = LabelSettings("", 10.0, LabelOutput.FILE)
LABELS = LabelSettings("", 10.0, LabelOutput.NODE)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """Return the warnings and errors that are logged, with their reason."""
    found: list[str] = []
    sink = logger.add(
        lambda text: found.append(f"{text.record['message']}: {text.record['extra']['reason']}"),
        level="WARNING",
    )
    yield found
    logger.remove(sink)


@pytest.mark.parametrize(
    ("told", "forks"),
    [
        (TOLD, False),
        (replace(TOLD, condition=True), True),
        (replace(TOLD, taint=True), True),
        (replace(TOLD, labels=LABELS), True),
    ],
)
def test_a_process_takes_back_what_would_stay(
    monkeypatch: pytest.MonkeyPatch, errors: list[str], told: ClusterSettings, *, forks: bool
) -> None:
    """Nothing stays of Events: without a condition, a taint and labels, no process takes memory.
    If it cannot be forked, the wait for a GPU goes on.
    """

    def fork() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    take_back([Spec("cluster", "supervisor.cluster.main", told)])
    why = "cannot take back what the cluster was told: [Errno 11] Resource temporarily unavailable"
    assert errors == forks * [why]


def test_a_file_that_cannot_be_removed_is_named(tmp_path: Path, errors: list[str]) -> None:
    """The reason names the file. A file or folder that is not there is no error."""
    for name in ("folder/file", "file"):
        take_back([Spec("labels", "", replace(IN_FILE, file=f"{tmp_path}/{name}"))])
    assert errors == []
    (tmp_path / "file").mkdir()
    take_back([Spec("labels", "", replace(IN_FILE, file=f"{tmp_path}/file"))])
    why = f'"{tmp_path}/file": Is a directory'
    assert errors == [f"cannot remove the file with the node's labels: {why}"]
