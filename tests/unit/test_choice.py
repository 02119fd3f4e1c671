"""The choice of a node's configuration file by its label."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.choose_file import Choice, Fallback, Wish, choose, listing
from supervisor.config.service_settings import configuration_file
from supervisor.config.settings import load
from tests.unit.refusal import message

NAMED, SINGLE, EMPTY = Fallback.NAMED, Fallback.SINGLE, Fallback.EMPTY
FILES = ("a", "b", "default")


@pytest.mark.parametrize(
    ("files", "label", "default", "fallbacks", "name"),
    [
        (FILES, "a", "b", (NAMED,), "a"),
        (FILES, "a", "missing", (), "a"),
        (FILES, "", "b", (NAMED,), "b"),
        (FILES, None, "b", (), "b"),
        (FILES, "", "", (NAMED, EMPTY), "default"),
        (FILES, "", "", (SINGLE, NAMED), "default"),
        (("a",), "", "", (NAMED, SINGLE), "a"),
        (("a", "b"), "", "", (NAMED, SINGLE, EMPTY), ""),
        ((), "", "", (NAMED, SINGLE, EMPTY), ""),
        (("default",), "", "", (EMPTY, NAMED), ""),
    ],
)
def test_the_choice(
    files: tuple[str, ...],
    label: str | None,
    default: str,
    fallbacks: tuple[Fallback, ...],
    name: str,
) -> None:
    """The label's file is used first, then the default file, then the first usable fallback."""
    assert choose(files, Wish(label), default, fallbacks) == Choice(name)


@pytest.mark.parametrize(("last", "name"), [("a", "a"), ("", ""), (None, "b")])
def test_an_unknown_label(last: str | None, name: str) -> None:
    """With an unknown label, the last file or the default stays, and a problem is reported."""
    choice = choose(FILES, Wish("c", last), "b", ())
    assert choice.name == name
    assert choice.problem == (
        'cannot use the node\'s label "c": no file has that name; files: a, b, default'
    )


@given(
    st.lists(st.sampled_from("abc"), unique=True),
    st.none() | st.sampled_from("abcd"),
    st.lists(st.sampled_from(Fallback)),
)
def test_the_chosen_file_exists(
    files: list[str], label: str | None, fallbacks: list[Fallback]
) -> None:
    """Without a last configuration, the choice is an existing file, or nothing with `empty`."""
    try:
        choice = choose(files, Wish(label), "", fallbacks)
    except ValueError:
        assert EMPTY not in fallbacks
    else:
        assert choice.name in files or (choice.name == "" and EMPTY in fallbacks)
        assert bool(choice.problem) == bool(label and label not in files)


def test_the_listing(tmp_path: Path) -> None:
    """The listing has files and links to files, but no folders and no dot files."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "b").write_text("")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "b").symlink_to("..data/b")
    (tmp_path / "a").write_text("")
    (tmp_path / "folder").mkdir()
    assert listing(str(tmp_path)) == ["a", "b"]


def test_the_settings_are_those_of_the_file(tmp_path: Path) -> None:
    """The chosen file's values are used; different files have different fingerprints."""
    (tmp_path / "a").write_text("flags: {migStrategy: mixed}")
    (tmp_path / "b").write_text("flags: {migStrategy: mixed}")
    flags = {"service.configDir": str(tmp_path), "service.configDefault": "a"}
    first, second = load(flags, {}), load(flags, {}, Wish("b"))
    assert first.configuration == second.configuration
    assert first.configuration.flags.mig_strategy == "mixed"
    files = [configuration_file(loaded.service, loaded.choice) for loaded in (first, second)]
    assert files == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert first.fingerprint() != second.fingerprint()


def test_a_label_that_is_not_known_yet(tmp_path: Path) -> None:
    """Settings that were loaded before the node's label was read report a problem."""
    (tmp_path / "a").write_text("")
    flags = {"service.configDir": str(tmp_path), "service.nodeName": "n"}
    assert "cannot read the node's label" in load(flags, {}).choice.problem
    assert load(flags, {}, Wish("")).choice == Choice("a")


REFUSED = {
    "events": ({"nodeEvents": "true"}, "--node-events without --node-name: set --node-name too"),
    "condition": (
        {"nodeCondition": "true"},
        "--node-condition without --node-name: set --node-name too",
    ),
    "taint": ({"nodeTaint": "true"}, "--node-taint without --node-name: set --node-name too"),
    "dra": ({"draCheck": "true"}, "--dra-check without --node-name: set --node-name too"),
    "both": (
        {"configDir": "/x", "configFile": "/y"},
        "--config-dir together with --config-file: set only one of them",
    ),
    "no folder": ({"configDir": "/nowhere"}, '--config-dir "/nowhere": No such file or directory'),
}


@pytest.mark.parametrize(("flags", "problem"), REFUSED.values(), ids=REFUSED)
def test_flags_that_conflict_are_refused(flags: dict[str, str], problem: str) -> None:
    """Flags that conflict, lack another flag or name no folder are refused with one line."""
    given = {f"service.{name}": value for name, value in flags.items()}
    assert message(given, {}) == f"cannot use {problem}"


def test_nothing_to_choose(tmp_path: Path) -> None:
    """A folder without a usable file is refused, and the error says what to set."""
    flags = {"service.configDir": str(tmp_path)}
    assert "set --config-default, or add empty to" in message(flags, {})
    flags["service.configDefault"] = "x"
    assert 'no file "x", which --config-default names' in message(flags, {})
