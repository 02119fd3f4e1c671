"""What is known of devices outlives a restart, and nothing in its file is an error."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from loguru import logger

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
    """Return the messages that are logged."""
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    logger.remove(sink)


def ledger(folder: Path, boot: str = "this boot") -> Ledger:
    """Return the ledger in *folder* of a plugin that runs since *boot*."""
    boot_id = folder / "boot_id"
    boot_id.write_text(f"{boot}\n")
    return Ledger(folder / "state", boot_id)


def kept(folder: Path) -> Path:
    """Return the ledger's file."""
    return folder / "state" / FILE


def test_what_is_kept_is_read_by_the_next(tmp_path: Path, told: list[str]) -> None:
    """The next plugin of this boot knows all that this one knew."""
    ledger(tmp_path).write(PLACES, KNOWN)
    assert ledger(tmp_path).read(PLACES) == KNOWN
    assert ([path.name for path in (tmp_path / "state").iterdir()], told) == ([FILE], [])


def test_a_reboot_clears_all(tmp_path: Path, told: list[str]) -> None:
    """A file of another boot is of no use, and nothing to warn of."""
    ledger(tmp_path).write(PLACES, KNOWN)
    assert (ledger(tmp_path, "another boot").read(PLACES), told) == ({}, [])


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
def test_a_card_takes_its_history_with_it(
    tmp_path: Path, places: dict[str, str], expected: set[str]
) -> None:
    """Only a device that still is at its place is the one that was known."""
    ledger(tmp_path).write(PLACES, KNOWN)
    assert ledger(tmp_path).read(places) == {uuid: KNOWN[uuid] for uuid in expected}


def test_a_gpu_that_is_not_seen_for_a_while_is_remembered(tmp_path: Path) -> None:
    """A lost GPU cannot be enumerated; when it is again, by the next plugin, its fault is known."""
    ledger(tmp_path).write(PLACES, KNOWN)
    without = {uuid: place for uuid, place in PLACES.items() if uuid != "A"}
    between = ledger(tmp_path)
    between.write(without, between.read(without))
    assert ledger(tmp_path).read(PLACES) == KNOWN


BOUND = frozenset(PLACES.values())


@pytest.mark.parametrize(("bound", "reset"), [(BOUND - {PLACES["A"]}, True), (BOUND, False)])
def test_a_gpu_that_was_gone_from_the_bus_was_reset(
    tmp_path: Path, *, bound: frozenset[str], reset: bool
) -> None:
    """A GPU that the bus did not show for a while was reset; one that the driver lost was not."""
    ledger(tmp_path).write(PLACES, KNOWN)
    without = {uuid: place for uuid, place in PLACES.items() if uuid != "A"}
    between = ledger(tmp_path)
    between.write(without, between.read(without, bound))
    found = ledger(tmp_path).read(PLACES, BOUND)
    assert found == {**KNOWN, "A": replace(KNOWN["A"], reset_seen=reset)}


def test_a_new_card_closes_the_incident_of_the_old_one(tmp_path: Path) -> None:
    """What is known of a card that was replaced is forgotten, also if it turns up again."""
    old, new = gpu(0), gpu(1, pci_bus_id=gpu(0).pci_bus_id)
    before, after = {old.uuid: old.pci_bus_id}, {new.uuid: new.pci_bus_id}
    ledger(tmp_path).write(before, {old.uuid: KNOWN["A"]}, (old,))
    between = ledger(tmp_path)
    between.write(after, between.read(after), (new,))
    assert ledger(tmp_path).read(before) == {}


def test_an_instance_that_was_destroyed_was_reset(tmp_path: Path) -> None:
    """A MIG instance that is made again, with its old UUID, is not the one that failed."""
    book = ledger(tmp_path)
    book.write(PLACES, KNOWN)
    without = {uuid: place for uuid, place in PLACES.items() if uuid != "A"}
    book.write(without, KNOWN)
    assert ledger(tmp_path).read(PLACES)["A"] == replace(KNOWN["A"], reset_seen=True)


def test_the_gpus_are_known_too(tmp_path: Path) -> None:
    """The next plugin knows which GPUs there were, so that one which is lost is missed."""
    ledger(tmp_path).write(PLACES, {}, (gpu(0), mig_gpu(1, "1g.10gb")))
    assert ledger(tmp_path).gpus() == (gpu(0), mig_gpu(1, "1g.10gb"))
    assert ledger(tmp_path, "another boot").gpus() == ()


def test_no_file(tmp_path: Path, told: list[str]) -> None:
    """At the first start nothing is known, and nothing to warn of."""
    assert (ledger(tmp_path).read(PLACES), told) == ({}, [])


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
    """It is kept for whoever wants to know, told, and does not stand in the way any more."""
    kept(tmp_path).parent.mkdir()
    kept(tmp_path).write_bytes(content)
    book = ledger(tmp_path)
    assert (book.read(PLACES), told) == ({}, [CANNOT_READ])
    assert kept(tmp_path).with_suffix(".unreadable").read_bytes() == content
    book.write(PLACES, KNOWN)
    assert (ledger(tmp_path).read(PLACES), told) == (KNOWN, [CANNOT_READ])


def test_a_file_of_many_brackets(tmp_path: Path) -> None:
    """JSON that is nested too deep is set aside as well."""
    kept(tmp_path).parent.mkdir()
    kept(tmp_path).write_bytes(b'{"x":' + b"[" * 100_000)
    assert ledger(tmp_path).read(PLACES) == {}


@given(st.one_of(st.binary(), st.text().map(str.encode)))
@example(b"\x00")
@example(b"null")
def test_any_bytes(content: bytes) -> None:
    """Whatever is in the file, nothing is known and the bytes are kept."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        kept(folder).parent.mkdir()
        kept(folder).write_bytes(content)
        assert ledger(folder).read(PLACES) == {}
        assert kept(folder).with_suffix(".unreadable").read_bytes() == content


@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """A file that was cut or altered anywhere is read or set aside, and can be written again."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ledger(folder).write(PLACES, KNOWN)
        content = kept(folder).read_bytes()
        first = data.draw(st.integers(0, len(content)))
        last = data.draw(st.integers(first, len(content)))
        kept(folder).write_bytes(content[:first] + data.draw(st.binary()) + content[last:])
        book = ledger(folder)
        assert set(book.read(PLACES)) <= set(PLACES)
        book.write(PLACES, KNOWN)
        assert ledger(folder).read(PLACES) == KNOWN


def test_a_folder_in_the_place_of_the_file(tmp_path: Path, told: list[str]) -> None:
    """Even what is no file is set aside."""
    kept(tmp_path).mkdir(parents=True)
    book = ledger(tmp_path)
    assert book.read(PLACES) == {}
    book.write(PLACES, KNOWN)
    assert (ledger(tmp_path).read(PLACES), told) == (KNOWN, [CANNOT_READ])


def test_where_nothing_can_be_written(tmp_path: Path, told: list[str]) -> None:
    """A disk that refuses is told of once, and nothing else comes of it; later it may not."""
    book = ledger(tmp_path)
    (tmp_path / "state").write_text("in the way")
    for known in ({}, KNOWN, {"A": KNOWN["A"]}, KNOWN):
        book.write(PLACES, known)
    assert (told, book.persisted) == ([CANNOT_KEEP], False)
    (tmp_path / "state").unlink()
    book.write(PLACES, KNOWN)
    assert book.persisted
    assert (ledger(tmp_path).read(PLACES), told) == (KNOWN, [CANNOT_KEEP])


def test_a_disk_that_refuses_again_is_told_of_again(tmp_path: Path, told: list[str]) -> None:
    """After it went well a new refusal is news."""
    state, book = tmp_path / "state", ledger(tmp_path)
    for known in (KNOWN, {"A": KNOWN["A"]}):
        state.write_text("in the way")
        book.write(PLACES, known)
        state.unlink()
        book.write(PLACES, known)
        kept(tmp_path).unlink()
        state.rmdir()
    assert told == [CANNOT_KEEP, CANNOT_KEEP]


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    """The disk is left alone while there is nothing new: looks come all the time."""
    book = ledger(tmp_path)
    book.write(PLACES, KNOWN)
    kept(tmp_path).write_text("a mark")
    book.write(PLACES, dict(KNOWN))
    assert kept(tmp_path).read_text() == "a mark"
    book.write(PLACES, {"A": KNOWN["A"]})
    assert ledger(tmp_path).read(PLACES) == {"A": KNOWN["A"]}


def test_a_file_that_somebody_deleted_is_written_again(tmp_path: Path) -> None:
    """What is known is kept though nothing new comes, or a restart would forget it."""
    book = ledger(tmp_path)
    book.write(PLACES, KNOWN)
    kept(tmp_path).unlink()
    book.write(PLACES, KNOWN)
    assert ledger(tmp_path).read(PLACES) == KNOWN


@pytest.mark.parametrize("known", [{}, {"A": Condition()}, {"gone": KNOWN["A"]}])
def test_there_is_nothing_to_say_of_most(tmp_path: Path, known: dict[str, Condition]) -> None:
    """Devices that always were well, and those that are not there, are not in the file."""
    ledger(tmp_path).write(PLACES, {**known, "B": KNOWN["B"]})
    assert ledger(tmp_path).read({**PLACES, "gone": ""}) == {"B": KNOWN["B"]}
