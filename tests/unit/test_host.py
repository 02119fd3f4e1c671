"""Whose folders we work in."""

import os
from pathlib import Path

import pytest

from health.ledger import Ledger
from proto.host import make_private, require_safe

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


def mode(path: Path) -> int:
    """Return the permission bits."""
    return path.stat().st_mode & 0o7777


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder that is ours."""
    path = tmp_path / "ours"
    path.mkdir(0o700)
    return path


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    """A folder that was not there is made, closed to others."""
    make_private(tmp_path / "a/b")
    assert mode(tmp_path / "a/b") == 0o700


@pytest.mark.parametrize("given", [0o777, 0o755, 0o2777, 0o1777])
def test_an_empty_folder_is_closed(folder: Path, given: int) -> None:
    """An empty folder, such as an emptyDir, in which all may write is closed before it is used."""
    folder.chmod(given)
    make_private(folder)
    assert mode(folder) == 0o700


@pytest.mark.parametrize("given", [0o777, 0o770, 0o1777])
def test_what_others_may_have_written_is_not_used(folder: Path, given: int) -> None:
    """A folder with something in it, into which others may write, is refused and left as it is."""
    (folder / "lock").symlink_to("/etc/passwd")
    folder.chmod(given)
    with pytest.raises(PermissionError, match="other users can write to it"):
        make_private(folder)
    assert mode(folder) == given


def test_a_folder_of_others_by_mistake_is_not_closed(folder: Path) -> None:
    """A path such as /etc, given by mistake, stays readable."""
    (folder / "passwd").touch()
    folder.chmod(0o755)
    make_private(folder)
    assert mode(folder) == 0o755


def test_a_folder_above_may_not_be_everybodys(tmp_path: Path, folder: Path) -> None:
    """Who may rename our folder can put another in its place; the sticky bit forbids it."""
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match=f'other users can write to "{tmp_path}"'):
        require_safe(folder)
    tmp_path.chmod(0o1777)
    require_safe(folder)


@root_only
@pytest.mark.parametrize("whose", ["ours", "link", "above"])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, folder: Path, whose: str) -> None:
    """A folder, a link to it or a folder above that belongs to another user is refused."""
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.chown(
        {"ours": folder, "link": link, "above": tmp_path}[whose],
        NOBODY,
        NOBODY,
        follow_symlinks=False,
    )
    with pytest.raises(PermissionError, match="belongs to another user"):
        make_private(link if whose == "link" else folder)


def test_our_own_link_is_followed(tmp_path: Path, folder: Path) -> None:
    """An administrator may keep a folder on another disk."""
    link = tmp_path / "link"
    link.symlink_to(folder)
    make_private(link)


def test_no_ledger_is_read_or_written_where_others_may_write(tmp_path: Path, folder: Path) -> None:
    """A ledger that others may have written is not believed, and none is written beside it."""
    boot = tmp_path / "boot_id"
    boot.write_text("boot")
    (folder / "health.json").write_text('{"version": 1, "boot_id": "boot", "devices": {}}')
    target = tmp_path / "target"
    (folder / "health.new").symlink_to(target)
    folder.chmod(0o777)
    ledger = Ledger(folder, boot)
    ledger.write({"GPU-a": "0000:01:00.0"}, {})
    assert not ledger.persisted
    assert not target.exists()
    assert (folder / "health.json").exists()


def test_the_ledger_is_for_us_alone(tmp_path: Path) -> None:
    """The folder and the file of a ledger are closed to others."""
    boot = tmp_path / "boot_id"
    boot.write_text("boot")
    Ledger(tmp_path / "state", boot).write({}, {})
    assert mode(tmp_path / "state") == 0o700
