"""When the configuration is read again, and what a reload that fails leaves in force."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from simulator.node import NodeError
from supervisor.compose import load_service
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import SettingsError
from supervisor.reload import Reload
from supervisor.state import Service

OLD = "health: {xids: {79: fatal}}"
NEW = "health: {xids: {79: ignore}}"


@dataclass
class Files:
    """A configuration file, and what happens right after it was read."""

    path: Path
    afterwards: Callable[[], object] = lambda: None
    prepare: Callable[[], None] = lambda: None

    def load(self, wish: Wish) -> Service:
        """Return the service that the file describes."""
        service = load_service({"service.configFile": str(self.path)}, {}, wish)
        self.afterwards()
        return replace(service, prepare=self.prepare)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return a configuration file with the content OLD."""
    path = tmp_path / "config.yaml"
    path.write_text(OLD)
    return Files(path)


def test_a_file_that_changes_while_the_service_starts_is_noticed(files: Files) -> None:
    """A file that changes right after it was read at the start is read again."""
    files.afterwards = lambda: files.path.write_text(NEW)
    reload = Reload(files.load)
    files.afterwards = lambda: None
    first = reload.service
    assert reload.is_due()
    assert reload.again() is not first
    assert not reload.is_due()


def test_a_file_that_changes_while_it_is_read_again_is_noticed(files: Files) -> None:
    """A file that changes right after it was read by a reload is read once more."""
    reload = Reload(files.load)
    files.afterwards = lambda: files.path.write_text(NEW)
    first = reload.again()
    files.afterwards = lambda: None
    assert reload.is_due()
    assert reload.again() is not first


def test_a_file_that_keeps_its_time_is_noticed_by_its_size(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is emptied, read and filled at one tick of the clock is read again."""
    files.path.write_text("")
    reload = Reload(files.load)
    reload.again()
    found = files.path.stat()
    files.path.write_text(NEW)
    filled = files.path.stat()
    real = Path.stat

    class SameTime:
        """The file after the change, with the times before it."""

        st_ino, st_ctime_ns, st_size = found.st_ino, found.st_ctime_ns, filled.st_size

    monkeypatch.setattr(
        Path, "stat", lambda path, **more: SameTime if path == files.path else real(path, **more)
    )
    assert reload.is_due()


def refuse() -> None:
    """Fail as the simulated node does when its file is damaged."""
    raise NodeError("cannot read the simulated node")


def test_a_service_that_cannot_be_prepared_leaves_the_old_one_in_force(files: Files) -> None:
    """A reload that cannot be prepared is told, changes nothing, and is tried again later."""
    reload = Reload(files.load)
    first = reload.service
    before = reload.state.hash
    files.path.write_text(NEW)
    files.prepare = refuse
    assert reload.again() is first
    assert (reload.state.problem, reload.state.hash) == ("cannot read the simulated node", before)
    files.prepare = lambda: None
    assert reload.again() is not first
    assert reload.state.problem == ""


def test_a_reload_without_a_change_prepares_nothing(files: Files) -> None:
    """SIGHUP without a change does not fail for what a change would need."""
    reload = Reload(files.load)
    files.prepare = refuse
    first = reload.service
    assert reload.again() is first
    assert reload.state.problem == ""


def test_a_start_that_cannot_be_prepared_fails(files: Files) -> None:
    """At the start there is no old service: the error ends it."""
    files.prepare = refuse
    with pytest.raises(NodeError):
        Reload(files.load)


def test_a_refused_file_is_not_read_every_second(files: Files) -> None:
    """A file that was refused is read again only when it changes."""
    reload = Reload(files.load)
    files.path.write_text("nonsense")
    assert reload.is_due()
    reload.again()
    assert reload.state.problem
    assert not reload.is_due()
    with pytest.raises(SettingsError):
        files.load(Wish())
