"""Our folders: owner, permissions, refusal of unsafe ones, and files that others put there."""

import errno
import os
from pathlib import Path

import pytest

from health.ledger import Ledger
from proto.folder import Folder
from proto.safe_paths import UnsafeError, in_words

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


def make_private(path: Path) -> None:
    """Make a folder private, or refuse it."""
    Folder.private(path).close()


def require_safe(path: Path) -> None:
    """Refuse an unsafe folder."""
    Folder.existing(path).close()


def mode(path: Path) -> int:
    """Return the permission bits of a path."""
    return path.stat().st_mode & 0o7777


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder that belongs to us."""
    path = tmp_path / "ours"
    path.mkdir(0o700)
    return path


def test_an_error_of_a_full_disk_names_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the kernel's number would tell nobody where to look."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", refused)
    with Folder.private(folder) as made, pytest.raises(OSError, match="left on device") as raised:
        made.write("state", b"1")
    assert in_words(raised.value) == f'cannot use "{folder}/state": No space left on device'
    assert not list(folder.iterdir())


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


@pytest.mark.parametrize("rights", [0o002, 0o020], ids=["all", "group"])
def test_a_parent_folder_that_others_can_write_to_is_refused(
    tmp_path: Path, folder: Path, rights: int
) -> None:
    """A parent folder that all or a group can write to is refused, except with the sticky bit."""
    tmp_path.chmod(0o755 | rights)
    for use in (require_safe, make_private):
        with pytest.raises(UnsafeError, match=f'other users can write to "{tmp_path}"; run chmod'):
            use(folder)
    tmp_path.chmod(0o1755 | rights)
    require_safe(folder)


def test_a_folder_above_the_target_of_a_link_counts(tmp_path: Path, folder: Path) -> None:
    """The folders above a link's target count too: others could replace the target."""
    above = tmp_path / "above"
    (above / "target").mkdir(parents=True)
    above.chmod(0o775)
    (folder / "link").symlink_to("../above/target")
    with pytest.raises(UnsafeError, match=f'other users can write to "{above}"'):
        require_safe(folder / "link/../target")


def test_nothing_is_created_below_a_folder_that_others_can_write_to(
    tmp_path: Path, folder: Path
) -> None:
    """No folder is created through a link that another user can have put there."""
    tmp_path.chmod(0o777)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UnsafeError):
        make_private(tmp_path / "link/a/b")
    assert list(folder.iterdir()) == []


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    """A circle of links is an error."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        require_safe(tmp_path / "a")


def test_a_folder_that_is_moved_stays_the_same(tmp_path: Path, folder: Path) -> None:
    """What is written after somebody has moved the folder is not in the folder that replaced it."""
    with Folder.existing(folder) as opened:
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        opened.write("file", b"ours")
        Path(opened.at("another")).touch()
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["another", "file"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file.new"])
@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_no_link_is_followed(tmp_path: Path, folder: Path, name: str, how: str) -> None:
    """A write, a lock and a read follow no link, and leave its target as it was."""
    target = tmp_path / "target"
    target.write_text("precious")
    getattr(folder / name, how)(target)
    with Folder.existing(folder) as opened:
        if how == "symlink_to":
            for use in (opened.own, opened.read):
                with pytest.raises(OSError, match="Too many levels of symbolic links"):
                    use(name)
        else:
            opened.own(name).close()
        opened.write("file", b"ours")
        assert opened.read("file") == b"ours"
    assert target.read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir()) == ["file"]


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    """A pipe in the place of a file is an error: to open it may wait for ever."""
    os.mkfifo(folder / "file")
    with Folder.existing(folder) as opened:
        for use in (opened.read, opened.own):
            with pytest.raises(OSError, match="it is not a regular file"):
                use("file")


@root_only
def test_a_file_of_another_user_is_not_read(folder: Path) -> None:
    """A file that another user wrote is not read, and a private folder that has one is refused."""
    (folder / "file").write_text("forged")
    os.chown(folder / "file", NOBODY, NOBODY)
    with Folder.existing(folder) as opened, pytest.raises(UnsafeError, match="another user"):
        opened.read("file")
    with pytest.raises(UnsafeError, match='"file" in it belongs to another user; remove that file'):
        make_private(folder)


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
