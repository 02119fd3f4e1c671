"""The watch of the kubelet's folder: a new socket is noticed, and a storm of files costs little."""

import contextlib
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.kubelet_watch import PAUSE, KubeletWatch

NOW = 100.0


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[KubeletWatch]:
    """Watch the folder of a socket that does not exist yet."""
    (tmp_path / "kubelet").mkdir()
    with contextlib.closing(KubeletWatch(str(tmp_path / "kubelet/kubelet.sock"))) as made:
        yield made


def readable(watch: KubeletWatch, now: float) -> set[object]:
    """Return what is ready of what the loop waits for."""
    return set(select.select(watch.sources(now), [], [], 0)[0])


def test_a_new_socket_is_noticed(tmp_path: Path, watch: KubeletWatch) -> None:
    """A file with the socket's name makes the watch readable, and is new once."""
    assert not watch.noticed(readable(watch, NOW), NOW)
    (tmp_path / "kubelet/kubelet.sock").touch()
    assert watch.noticed(readable(watch, NOW), NOW)
    assert [watch.is_new(), watch.is_new()] == [True, False]


def test_a_storm_of_files_is_looked_at_in_pauses(tmp_path: Path, watch: KubeletWatch) -> None:
    """However many files are created, the loop looks once in each pause, and misses nothing."""
    looks = 0
    for step in range(1000):
        now = NOW + step * PAUSE / 100
        (tmp_path / f"kubelet/{step}").touch()
        if watch.noticed(readable(watch, now), now):
            looks += 1
            assert not watch.is_new()
    assert looks == 10
    (tmp_path / "kubelet/kubelet.sock").touch()
    assert watch.deadline(now) is not None
    later = now + PAUSE
    assert watch.deadline(later) is None
    assert watch.noticed(readable(watch, later), later)
    assert watch.is_new()


def test_a_new_folder_is_watched_again(tmp_path: Path, watch: KubeletWatch) -> None:
    """After a look, a new folder of the same name is watched."""
    folder = tmp_path / "kubelet"
    folder.rmdir()
    folder.mkdir()
    assert not watch.is_new()
    (folder / "kubelet.sock").touch()
    assert watch.noticed(readable(watch, NOW), NOW)
    assert watch.is_new()
