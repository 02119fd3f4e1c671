"""When the configuration is read again, and what a reload that fails leaves in force."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from simulator.node import NodeError
from supervisor.child import Process, Spec
from supervisor.compose import compose
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import SettingsError
from supervisor.reload import Reload
from supervisor.reload_schedule import EVERY
from supervisor.source import source
from supervisor.state import Service, ServiceSource

OLD = "health: {xids: {79: fatal}}"
NEW = "health: {xids: {79: ignore}}"
NOW = 100.0


@dataclass
class Files:
    """A configuration file, and what happens right after it was read."""

    path: Path
    afterwards: Callable[[], object] = lambda: None
    prepare: Callable[[], None] = lambda: None

    def read(self, wish: Wish) -> bytes:
        """Return the settings of the file as bytes."""
        found = self._real.read(wish)
        self.afterwards()
        return found

    def source(self) -> ServiceSource:
        """Return the source of the service that the file describes."""
        return ServiceSource(
            self.read, lambda data: replace(self._real.compose(data), prepare=self.prepare)
        )

    @property
    def _real(self) -> ServiceSource:
        return source({"service.configFile": str(self.path)}, {}, compose)

    def again(self, reload: Reload) -> Service:
        """Read the file as the process that reads it would; return the service in force."""
        wish = reload.wish(NOW)
        reload.take(lambda: self.read(wish), NOW)
        return reload.service


def asked(reload: Reload) -> bool:
    """Return whether a look at the file finds that it has to be read again."""
    reload.look()
    return reload.asked


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return a configuration file with the content OLD."""
    path = tmp_path / "config.yaml"
    path.write_text(OLD)
    return Files(path)


def test_a_file_that_changes_while_the_service_starts_is_noticed(files: Files) -> None:
    """A file that changes right after it was read at the start is read again."""
    files.afterwards = lambda: files.path.write_text(NEW)
    reload = Reload(files.source())
    files.afterwards = lambda: None
    first = reload.service
    assert asked(reload)
    assert files.again(reload) is not first
    assert not asked(reload)


def test_a_file_that_changes_while_it_is_read_again_is_noticed(files: Files) -> None:
    """A file that changes right after it was read by a reload is read once more."""
    reload = Reload(files.source())
    files.afterwards = lambda: files.path.write_text(NEW)
    first = files.again(reload)
    files.afterwards = lambda: None
    assert asked(reload)
    assert files.again(reload) is not first


def test_a_file_that_keeps_its_time_is_noticed_by_its_size(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is emptied, read and filled at one tick of the clock is read again."""
    files.path.write_text("")
    reload = Reload(files.source())
    files.again(reload)
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
    assert asked(reload)


def refuse() -> None:
    """Fail as the simulated node does when its file is damaged."""
    raise NodeError("cannot read the simulated node")


def test_a_service_that_cannot_be_prepared_leaves_the_old_one_in_force(files: Files) -> None:
    """A reload that cannot be prepared is told, changes nothing, and is tried again later."""
    reload = Reload(files.source())
    first = reload.service
    before = reload.state.hash
    files.path.write_text(NEW)
    files.prepare = refuse
    assert files.again(reload) is first
    assert (reload.state.problem, reload.state.hash) == ("cannot read the simulated node", before)
    files.prepare = lambda: None
    assert files.again(reload) is not first
    assert reload.state.problem == ""


def test_a_reload_without_a_change_prepares_nothing(files: Files) -> None:
    """SIGHUP without a change does not fail for what a change would need."""
    reload = Reload(files.source())
    files.prepare = refuse
    first = reload.service
    assert files.again(reload) is first
    assert reload.state.problem == ""


def test_a_start_that_cannot_be_prepared_fails(files: Files) -> None:
    """At the start there is no old service: the error ends it."""
    files.prepare = refuse
    with pytest.raises(NodeError):
        Reload(files.source())


def test_a_refused_file_is_not_read_every_second(files: Files) -> None:
    """A file that was refused is read again only when it changes."""
    reload = Reload(files.source())
    files.path.write_text("nonsense")
    assert asked(reload)
    files.again(reload)
    assert reload.state.problem
    assert not asked(reload)
    with pytest.raises(SettingsError):
        files.read(Wish())


def test_a_reading_that_cannot_begin_is_tried_again(files: Files) -> None:
    """Without a descriptor or a process left, the change is read as soon as there is one."""

    def full(spec: Spec, epoch: int) -> Process:
        raise OSError(24, f"Too many open files: {spec.name} {epoch}")

    reload = Reload(files.source())
    reload.service = replace(reload.service, fork=full)
    reload.ask()
    for now in (NOW, NOW + EVERY / 2, NOW + EVERY):
        assert reload.go_on(set(), now, settled=True) is None
        assert (reload.asked, reload.sources()) == (True, [])
    assert reload.deadline(NOW + EVERY) == NOW + 2 * EVERY


def test_the_first_label_is_read_at_once(files: Files) -> None:
    """The start waits for it, so it does not wait for the second to be over."""
    reload = Reload(files.source())
    files.again(reload)
    reload.labelled("one")
    assert reload.deadline(NOW) == NOW + EVERY
    begun = []

    def fork(spec: Spec, epoch: int) -> Process:
        begun.append((spec.name, epoch))
        raise OSError(24, "Too many open files")

    reload.service = replace(reload.service, fork=fork)
    reload.go_on(set(), NOW, settled=False)
    assert begun == [("configuration", 1)]
