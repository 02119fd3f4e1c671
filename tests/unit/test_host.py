"""Runtime and state folders: owner, permissions, and refusal of unsafe folders."""

import os
from pathlib import Path

import pytest

from health.ledger import Ledger
from proto.host import make_private, require_safe

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


def mode(path: Path) -> int:
    """Return the permission bits of a path."""
    return path.stat().st_mode & 0o7777


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder that belongs to us."""
    path = tmp_path / "ours"
    path.mkdir(0o700)
    return path


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    """A missing folder is created, without permissions for other users."""
    make_private(tmp_path / "a/b")
    assert mode(tmp_path / "a/b") == 0o700


@pytest.mark.parametrize("given", [0o777, 0o755, 0o2777, 0o1777])
def test_an_empty_folder_is_closed(folder: Path, given: int) -> None:
    """An empty folder, such as an emptyDir, is closed to other users before it is used."""
    folder.chmod(given)
    make_private(folder)
    assert mode(folder) == 0o700


@pytest.mark.parametrize("given", [0o777, 0o770, 0o1777])
def test_a_folder_with_content_that_others_can_write_to_is_refused(
    folder: Path, given: int
) -> None:
    """A folder with content that other users can write to is refused and not changed."""
    (folder / "lock").symlink_to("/etc/passwd")
    folder.chmod(given)
    with pytest.raises(PermissionError, match="other users can write to it"):
        make_private(folder)
    assert mode(folder) == given


def test_a_folder_with_content_keeps_its_permissions(folder: Path) -> None:
    """A folder with content, such as /etc given by mistake, keeps its permissions."""
    (folder / "passwd").touch()
    folder.chmod(0o755)
    make_private(folder)
    assert mode(folder) == 0o755


def test_a_parent_folder_that_others_can_write_to_is_refused(tmp_path: Path, folder: Path) -> None:
    """A parent folder that others can write to is refused, except with the sticky bit."""
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match=f'other users can write to "{tmp_path}"'):
        require_safe(folder)
    tmp_path.chmod(0o1777)
    require_safe(folder)


@root_only
@pytest.mark.parametrize("whose", ["ours", "link", "above"])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, folder: Path, whose: str) -> None:
    """A folder is refused if it, a link to it, or its parent belongs to another user."""
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
    """Our own link to our folder is accepted: the folder may be on another disk."""
    link = tmp_path / "link"
    link.symlink_to(folder)
    make_private(link)


def test_a_ledger_that_others_can_write_to_is_not_used(tmp_path: Path, folder: Path) -> None:
    """A ledger is neither read nor written in a folder that other users can write to."""
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


def test_the_ledgers_folder_is_private(tmp_path: Path) -> None:
    """The folder of a ledger is closed to other users."""
    boot = tmp_path / "boot_id"
    boot.write_text("boot")
    Ledger(tmp_path / "state", boot).write({}, {})
    assert mode(tmp_path / "state") == 0o700
