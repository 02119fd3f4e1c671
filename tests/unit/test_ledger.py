"""The ledger keeps device health over restarts, whatever is in its file."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from loguru import logger
from msgspec.structs import replace

from health.condition import LOST, Condition, Look
from health.ledger import FILE, Ledger
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import condition_after, gpu, mig_gpu

XID = Reason(ReasonKind.XID, "79")
PLACES = {"A": "0000:01:00.0", "B": "0000:02:00.0", "C": "0000:03:00.0"}
KNOWN = {
    "A": condition_after({1: XID, 2: LOST, 3: Look(action=0)}, Recovery()),
    "B": condition_after({1: Look(failed="busy"), 2: Look(failed="busy")}, Recovery()),
    "C": condition_after({1: XID, 2: Look(action=0)}, Recovery(quiet_period=0.0, probes=1)),
}

CANNOT_READ = "cannot read the saved device health: starting without it"
CANNOT_KEEP = "cannot save device health: a monitor restart would forget faults"


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Return a list that collects the logged warnings."""
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    logger.remove(sink)


def ledger(folder: Path, boot: str = "this boot") -> Ledger:
    """Return a new ledger in *folder*, as after a restart during the boot *boot*."""
    boot_id = folder / "boot_id"
    boot_id.write_text(f"{boot}\n")
    return Ledger(folder / "state", boot_id)


def kept(folder: Path) -> Path:
    """Return the path of the ledger's file."""
    return folder / "state" / FILE


def test_conditions_are_read_after_a_restart(tmp_path: Path, told: list[str]) -> None:
    """After a restart of the plugin, the ledger has all conditions that were written."""
    ledger(tmp_path).write(PLACES, KNOWN)
    assert ledger(tmp_path).recall(PLACES) == KNOWN
    assert ([path.name for path in (tmp_path / "state").iterdir()], told) == ([FILE], [])


def test_how_far_the_kernel_log_was_read(tmp_path: Path) -> None:
    """The number is written with a change of conditions or on request, and ends with the boot."""
    first = ledger(tmp_path)
    assert first.kernel_log is None
    first.write(PLACES, {})
    first.kernel_log = 5
    first.write(PLACES, {})
    assert (first.is_behind, ledger(tmp_path).kernel_log) == (True, None)
    first.write(PLACES, KNOWN)
    assert (first.is_behind, ledger(tmp_path).kernel_log) == (False, 5)
    first.kernel_log = 6
    first.write(PLACES, KNOWN, log_too=True)
    assert (first.is_behind, ledger(tmp_path).kernel_log) == (False, 6)
    assert ledger(tmp_path, "another boot").kernel_log is None


def test_a_reboot_clears_all_conditions(tmp_path: Path, told: list[str]) -> None:
    """After a reboot, the ledger is empty, without a warning."""
    ledger(tmp_path).write(PLACES, KNOWN)
    assert (ledger(tmp_path, "another boot").recall(PLACES), told) == ({}, [])


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({**PLACES, "A": PLACES["B"], "B": PLACES["A"]}, {"C"}),
        ({"A": PLACES["A"]}, {"A"}),
        ({"another": PLACES["A"]}, set()),
        ({}, set()),
    ],
    ids=["exchanged", "two taken out", "replaced", "no GPU"],
)
def test_a_gpu_at_a_different_pci_address_is_not_known(
    tmp_path: Path, places: dict[str, str], expected: set[str]
) -> None:
    """Only a device that is still at its PCI address keeps its condition."""
    ledger(tmp_path).write(PLACES, KNOWN)
    assert ledger(tmp_path).recall(places) == {uuid: KNOWN[uuid] for uuid in expected}


def test_a_gpu_that_is_not_listed_is_remembered(tmp_path: Path) -> None:
    """A GPU that one run of the plugin cannot enumerate keeps its fault for the next run."""
    ledger(tmp_path).write(PLACES, KNOWN)
    without = {uuid: place for uuid, place in PLACES.items() if uuid != "A"}
    between = ledger(tmp_path)
    between.write(without, between.recall(without))
    assert ledger(tmp_path).recall(PLACES) == KNOWN


BOUND = frozenset(PLACES.values())


@pytest.mark.parametrize(("bound", "reset"), [(BOUND - {PLACES["A"]}, True), (BOUND, False)])
def test_a_gpu_that_was_removed_from_the_bus_was_reset(
    tmp_path: Path, *, bound: frozenset[str], reset: bool
) -> None:
    """A GPU that left the PCI bus counts as reset; a GPU that only the driver lost does not."""
    ledger(tmp_path).write(PLACES, KNOWN)
    without = {uuid: place for uuid, place in PLACES.items() if uuid != "A"}
    between = ledger(tmp_path)
    between.write(without, between.recall(without, bound))
    found = ledger(tmp_path).recall(PLACES, BOUND)
    assert found == {**KNOWN, "A": replace(KNOWN["A"], reset_seen=reset)}


def test_a_replaced_gpu_is_forgotten(tmp_path: Path) -> None:
    """A GPU that was replaced is forgotten, and stays forgotten when it comes back."""
    old, new = gpu(0), gpu(1, pci_bus_id=gpu(0).pci_bus_id)
    before, after = {old.uuid: old.pci_bus_id}, {new.uuid: new.pci_bus_id}
    ledger(tmp_path).write(before, {old.uuid: KNOWN["A"]}, (old,))
    between = ledger(tmp_path)
    between.write(after, between.recall(after), (new,))
    assert ledger(tmp_path).recall(before) == {}


def test_a_destroyed_mig_instance_was_reset(tmp_path: Path) -> None:
    """A MIG instance that was destroyed and created again counts as reset."""
    book = ledger(tmp_path)
    book.write(PLACES, KNOWN)
    without = {uuid: place for uuid, place in PLACES.items() if uuid != "A"}
    book.write(without, KNOWN)
    assert ledger(tmp_path).recall(PLACES)["A"] == replace(KNOWN["A"], reset_seen=True)


def test_the_ledger_keeps_the_gpus(tmp_path: Path) -> None:
    """The ledger keeps the list of GPUs until a reboot, so that a lost GPU is noticed."""
    ledger(tmp_path).write(PLACES, {}, (gpu(0), mig_gpu(1, "1g.10gb")))
    assert ledger(tmp_path).gpus() == (gpu(0), mig_gpu(1, "1g.10gb"))
    assert ledger(tmp_path, "another boot").gpus() == ()


def test_no_file(tmp_path: Path, told: list[str]) -> None:
    """Without a file, the ledger is empty, without a warning."""
    assert (ledger(tmp_path).recall(PLACES), told) == ({}, [])


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"\xff{",
    "cut off": b'{"version": 1, "boot_id": "this boot", "devices": {"A"',
    "another version": b'{"version": 2, "boot_id": "this boot", "devices": {}}',
    "no version": b'{"boot_id": "this boot", "devices": {}}',
    "another form": b"[]",
    "a state that we do not know": (
        b'{"version": 1, "boot_id": "this boot", "devices": {"A":'
        b' {"pci_bus_id": "0000:01:00.0", "condition": {"state": "cured"}}}}'
    ),
    "a text for a time": (
        b'{"version": 1, "boot_id": "this boot", "devices": {"A":'
        b' {"pci_bus_id": "0000:01:00.0", "condition": {"since": "now"}}}}'
    ),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, told: list[str], content: bytes) -> None:
    """A file that cannot be read is renamed, with one warning, and the next write works."""
    kept(tmp_path).parent.mkdir()
    kept(tmp_path).write_bytes(content)
    book = ledger(tmp_path)
    assert (book.recall(PLACES), told) == ({}, [CANNOT_READ])
    assert kept(tmp_path).with_suffix(".unreadable").read_bytes() == content
    book.write(PLACES, KNOWN)
    assert (ledger(tmp_path).recall(PLACES), told) == (KNOWN, [CANNOT_READ])


def test_a_file_of_many_brackets(tmp_path: Path) -> None:
    """A file with too deeply nested JSON gives an empty ledger."""
    kept(tmp_path).parent.mkdir()
    kept(tmp_path).write_bytes(b'{"x":' + b"[" * 100_000)
    assert ledger(tmp_path).recall(PLACES) == {}


@given(st.one_of(st.binary(), st.text().map(str.encode)))
@example(b"\x00")
@example(b"null")
def test_any_bytes(content: bytes) -> None:
    """A file of random bytes gives an empty ledger, and is renamed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        kept(folder).parent.mkdir()
        kept(folder).write_bytes(content)
        assert ledger(folder).recall(PLACES) == {}
        assert kept(folder).with_suffix(".unreadable").read_bytes() == content


@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """After any damage to its file, the ledger can be read and written again."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ledger(folder).write(PLACES, KNOWN)
        content = kept(folder).read_bytes()
        first = data.draw(st.integers(0, len(content)))
        last = data.draw(st.integers(first, len(content)))
        kept(folder).write_bytes(content[:first] + data.draw(st.binary()) + content[last:])
        book = ledger(folder)
        assert set(book.recall(PLACES)) <= set(PLACES)
        book.write(PLACES, KNOWN)
        assert ledger(folder).recall(PLACES) == KNOWN


def test_a_folder_in_the_place_of_the_file(tmp_path: Path, told: list[str]) -> None:
    """A folder in place of the ledger's file is moved away, and the ledger is written."""
    kept(tmp_path).mkdir(parents=True)
    book = ledger(tmp_path)
    assert book.recall(PLACES) == {}
    book.write(PLACES, KNOWN)
    assert (ledger(tmp_path).recall(PLACES), told) == (KNOWN, [CANNOT_READ])


def test_a_failed_write_is_logged_once(tmp_path: Path, told: list[str]) -> None:
    """A ledger that cannot be written logs one warning, and retries until it can."""
    book = ledger(tmp_path)
    (tmp_path / "state").write_text("in the way")
    for known in ({}, KNOWN, {"A": KNOWN["A"]}, KNOWN):
        book.write(PLACES, known)
    assert (told, book.persisted) == ([CANNOT_KEEP], False)
    (tmp_path / "state").unlink()
    book.write(PLACES, KNOWN)
    assert book.persisted
    assert (ledger(tmp_path).recall(PLACES), told) == (KNOWN, [CANNOT_KEEP])


def test_a_failed_write_after_a_success_is_logged_again(tmp_path: Path, told: list[str]) -> None:
    """A write that fails after a successful write is logged again."""
    state, book = tmp_path / "state", ledger(tmp_path)
    for known in (KNOWN, {"A": KNOWN["A"]}):
        state.write_text("in the way")
        book.write(PLACES, known)
        state.unlink()
        book.write(PLACES, known)
        kept(tmp_path).unlink()
        state.rmdir()
    assert told == [CANNOT_KEEP, CANNOT_KEEP]


def test_unchanged_conditions_are_not_written(tmp_path: Path) -> None:
    """The ledger writes its file only when conditions change, not after each check."""
    book = ledger(tmp_path)
    book.write(PLACES, KNOWN)
    kept(tmp_path).write_text("a mark")
    book.write(PLACES, dict(KNOWN))
    assert kept(tmp_path).read_text() == "a mark"
    book.write(PLACES, {"A": KNOWN["A"]})
    assert ledger(tmp_path).recall(PLACES) == {"A": KNOWN["A"]}


def test_a_file_that_somebody_deleted_is_written_again(tmp_path: Path) -> None:
    """The ledger writes a deleted file again, even when conditions did not change."""
    book = ledger(tmp_path)
    book.write(PLACES, KNOWN)
    kept(tmp_path).unlink()
    book.write(PLACES, KNOWN)
    assert ledger(tmp_path).recall(PLACES) == KNOWN


@pytest.mark.parametrize("known", [{}, {"A": Condition()}, {"gone": KNOWN["A"]}])
def test_healthy_and_missing_devices_are_not_written(
    tmp_path: Path, known: dict[str, Condition]
) -> None:
    """Devices that were always Healthy, and devices that are missing, are not in the file."""
    ledger(tmp_path).write(PLACES, {**known, "B": KNOWN["B"]})
    assert ledger(tmp_path).recall({**PLACES, "gone": ""}) == {"B": KNOWN["B"]}
