"""The file that node feature discovery reads: its text, and how it is replaced."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.safe_paths import UnsafeError
from supervisor.labels.feature_file import LIMIT, remove, text, write

LABELS = {"nvidia.com/gpu.product": "NVIDIA-H100", "nvidia.com/gpu.count": "8"}


def test_the_text() -> None:
    """The directive comes before the labels, which are sorted."""
    assert text(LABELS, 1795720000.7).decode() == (
        "# Written by gpu-sharing-plugin, which replaces it.\n"
        "# +expiry-time=2026-11-26T19:06:40Z\n"
        "nvidia.com/gpu.count=8\n"
        "nvidia.com/gpu.product=NVIDIA-H100\n"
    )


def test_a_file_without_an_expiry() -> None:
    """Without a time to expire there is no directive."""
    assert b"+expiry-time" not in text(LABELS, None)


@given(st.permutations(list(LABELS.items())))
def test_the_order_does_not_matter(items: list[tuple[str, str]]) -> None:
    """The same labels give the same text."""
    assert text(dict(items), 0.0) == text(LABELS, 0.0)


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A new file takes the name of the old one, all users can read it, and nothing else is left."""
    path = tmp_path / "features.d" / "gpus"
    umask = os.umask(0o077)
    try:
        write(path, b"old")
        before = path.stat()
        write(path, b"new")
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != before.st_ino
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert [entry.name for entry in path.parent.iterdir()] == ["gpus"]


@pytest.mark.parametrize("name", ["gpus", "gpus.labels"])
def test_an_unfinished_file_is_hidden(tmp_path: Path, name: str) -> None:
    """What cannot get its name, because a folder has it, is hidden until it is removed."""
    (tmp_path / name / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=name):
        write(tmp_path / name, b"text")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_long_file_is_refused(tmp_path: Path) -> None:
    """A file that node feature discovery would ignore is not written."""
    with pytest.raises(OSError, match=r"the labels have 65537 bytes"):
        write(tmp_path / "gpus", bytes(LIMIT + 1))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Other users could replace the file in such a folder."""
    tmp_path.chmod(0o777)
    with pytest.raises(UnsafeError, match="other users can write to it"):
        write(tmp_path / "gpus", b"text")


def test_the_file_is_removed(tmp_path: Path) -> None:
    """Removing tells whether there was a file."""
    write(tmp_path / "gpus", b"text")
    assert remove(tmp_path / "gpus")
    assert not remove(tmp_path / "gpus")
    assert not list(tmp_path.iterdir())
