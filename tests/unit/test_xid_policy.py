"""Which Xids are fatal, given the table, the file and the environment."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from health import xid_catalogue
from health.xid_policy import (
    DISABLE,
    ENABLE,
    Selection,
    Source,
    Wishes,
    judge,
    policy,
    rows,
    select,
)
from proto.monitor import XidPolicy
from supervisor.commands import show_xids as listing
from supervisor.config import settings

EVERYTHING = Selection(everything=True)
FATAL = {code for code, one in xid_catalogue.TABLE.items() if one.fatal}
ALL = set(xid_catalogue.TABLE)
UNHEARD_OF = 555


def chosen(*codes: int) -> Selection:
    """Return the selection of just these Xids."""
    return Selection(codes=frozenset(codes))


@pytest.mark.parametrize(
    ("text", "selection", "malformed"),
    [
        ("", chosen(), []),
        (",", chosen(), []),
        ("not-an-int", chosen(), ["not-an-int"]),
        ("68", chosen(68), []),
        ("-68", chosen(), ["-68"]),
        ("68  ", chosen(68), []),
        ("68,", chosen(68), []),
        (",68", chosen(68), []),
        ("68,67", chosen(67, 68), []),
        ("68,not-an-int,67", chosen(67, 68), ["not-an-int"]),
        ("all", EVERYTHING, []),
        ("xids", EVERYTHING, []),
        (" ALL ", EVERYTHING, []),
        ("Xids,", EVERYTHING, []),
        ("allx", chosen(), ["allx"]),
        ("0068", chosen(68), []),
        ("0", chosen(), ["0"]),
        ("000", chosen(), ["000"]),
        ("+68,6_8,6.8,0x44", chosen(), ["+68", "6_8", "6.8", "0x44"]),
        ("68 67", chosen(), ["68 67"]),
        ("\u0666\u0668", chosen(), ["\u0666\u0668"]),
        ("999999999,1000000000", chosen(999_999_999), ["1000000000"]),
        ("9" * 5000, chosen(), ["9" * 5000]),
        ("x,x", chosen(), ["x"]),
        ("\t68\n", chosen(68), []),
        ("6\n8", chosen(), ["6\n8"]),
    ],
)
def test_a_variable_is_a_list(text: str, selection: Selection, malformed: list[str]) -> None:
    """A variable lists Xids, `all` or `xids`; what is malformed is told, and skipped."""
    expected = tuple(f"cannot use {json.dumps(one)} in V: write Xids or all" for one in malformed)
    assert select("V", text) == (selection, expected)


def test_all_takes_its_neighbours_along() -> None:
    """With `all` in a list it does not matter what else is in it, but a mistake is still told."""
    selection, notices = select("V", "13,all,nonsense")
    assert 79 in selection
    assert UNHEARD_OF in selection
    assert len(notices) == 1


@given(st.lists(st.one_of(st.text(), st.integers().map(str), st.sampled_from(["all", "xids"]))))
def test_any_text_is_taken(tokens: list[str]) -> None:
    """Whatever a variable holds, every token of it is an Xid, a word, empty, or told of once."""
    text = ",".join(tokens)
    selection, notices = select("V", text)
    told = {one.strip() for one in text.split(",")} - {""}
    words = {one for one in told if one.lower() in {"all", "xids"}}
    understood = {one for one in told - words if one.isascii() and one.isdecimal()}
    understood = {one for one in understood if 0 < int(one) <= 999_999_999}
    assert selection == Selection(bool(words), frozenset(map(int, understood)))
    assert len(notices) == len(told - words - understood)
    assert all(notice.isprintable() and notice.isascii() for notice in notices)


@given(st.sets(st.integers(1, 999_999_999)))
def test_a_list_of_xids_is_understood(codes: set[int]) -> None:
    """Every list of Xids selects just these."""
    assert select("V", " , ".join(map(str, codes))) == (chosen(*codes), ())


def fatal(wishes: Wishes, among: Iterable[int]) -> set[int]:
    """Return the Xids that the monitor would hold to be fatal."""
    told = policy(wishes)
    return {code for code in among if told.is_fatal(code)}


@pytest.mark.parametrize(
    ("disabled", "enabled", "expected"),
    [
        ("", "", FATAL | {UNHEARD_OF}),
        ("all", "", set()),
        ("xids", "", set()),
        ("", "all", ALL | {UNHEARD_OF}),
        ("", "xids", ALL | {UNHEARD_OF}),
        ("11", "11", FATAL | {11, UNHEARD_OF}),
        ("", "31", FATAL | {31, UNHEARD_OF}),
        ("79", "", FATAL - {79} | {UNHEARD_OF}),
        ("48,79,555", "", FATAL - {48, 79}),
        ("all", "79", {79}),
        ("xids", "79, 13", {13, 79}),
        ("all", "555", {UNHEARD_OF}),
        ("all,79", "79", {79}),
        ("79", "all", ALL | {UNHEARD_OF}),
        ("all", "all", ALL | {UNHEARD_OF}),
        ("all", "nonsense", set()),
        ("nonsense", "", FATAL | {UNHEARD_OF}),
        ("0", "", FATAL | {UNHEARD_OF}),
    ],
)
def test_the_environment(disabled: str, enabled: str, expected: set[int]) -> None:
    """The two variables mean what NVIDIA documents: what is enabled beats what is disabled."""
    wishes = Wishes({}, select(DISABLE, disabled)[0], select(ENABLE, enabled)[0])
    assert fatal(wishes, ALL | {UNHEARD_OF}) == expected


@pytest.mark.parametrize(
    ("file", "disabled", "enabled", "expected"),
    [
        ({}, "", "", (True, Source.DEFAULT)),
        ({79: False}, "", "", (False, Source.FILE)),
        ({79: True}, "", "", (True, Source.FILE)),
        ({79: True}, "79", "", (False, Source.DISABLED)),
        ({79: True}, "all", "", (False, Source.DISABLED)),
        ({79: False}, "", "79", (True, Source.ENABLED)),
        ({79: False}, "", "all", (True, Source.ENABLED)),
        ({79: False}, "all", "79", (True, Source.ENABLED)),
        ({79: False}, "79", "79", (True, Source.ENABLED)),
        ({79: False}, "13", "31", (False, Source.FILE)),
    ],
)
def test_precedence(
    file: dict[int, bool], disabled: str, enabled: str, expected: tuple[bool, Source]
) -> None:
    """The environment beats the file, which beats the table; and it is known who decided."""
    wishes = Wishes(file, select(DISABLE, disabled)[0], select(ENABLE, enabled)[0])
    row = judge(wishes, 79)
    assert (row.fatal, row.source) == expected
    assert policy(wishes).is_fatal(79) is row.fatal


codes = st.integers(1, 200)
selections = st.builds(Selection, st.booleans(), st.frozensets(codes))


@given(st.builds(Wishes, st.dictionaries(codes, st.booleans()), selections, selections), codes)
def test_the_monitor_is_told_what_is_listed(wishes: Wishes, code: int) -> None:
    """The monitor's short form of the policy gives the same verdict on every Xid, named or not."""
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(policy(wishes)), type=XidPolicy)
    assert told.is_fatal(code) == judge(wishes, code).fatal
    assert all(told.is_fatal(row.xid.xid) == row.fatal for row in rows(wishes))


def test_untold_every_xid_is_fatal() -> None:
    """A policy that says nothing holds every Xid to be fatal."""
    assert all(XidPolicy().is_fatal(code) for code in (0, *ALL, UNHEARD_OF))


def test_every_named_xid_is_listed() -> None:
    """The list has each Xid of the table and of the settings once, by number."""
    wishes = Wishes({600: False}, chosen(500, 79), chosen(400))
    listed = [row.xid.xid for row in rows(wishes)]
    assert listed == [*sorted(ALL), 400, 500, 600]


def load(folder: Path, text: str, environment: Mapping[str, str]) -> settings.Settings:
    """Return the settings from a file with *text* and from the environment."""
    path = folder / "config"
    path.write_text(text)
    return settings.load({"service.configFile": str(path)}, environment)


@pytest.mark.parametrize(
    "text",
    [
        "health: {xids: {94: fatal, 79: ignore}}",
        'health: {xids: {"94": fatal, "79": ignore}}',
        '{"health": {"xids": {"94": "fatal", "79": "ignore"}}}',
        "health:\n  xids:\n    94: fatal\n    0x4f: ignore\n    13:\n",
    ],
)
def test_xids_in_the_file(tmp_path: Path, text: str) -> None:
    """Xids are numbers in YAML and texts in JSON; both are taken, and told where they are from."""
    loaded = load(tmp_path, text, {})
    assert loaded.configuration.health.xids == {94: "fatal", 79: "ignore"}
    assert loaded.xids == Wishes({94: True, 79: False})
    assert loaded.sources["health.xids.94"] == loaded.sources["health.xids.79"] == "file"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("{79: deadly}", 'health.xids: 79: "deadly" is not allowed; write fatal or ignore'),
        ("{79: true}", 'health.xids: 79: "True" is not allowed; write fatal or ignore'),
        (
            "{79: [fatal]}",
            "health.xids: 79: \"['fatal']\" is not allowed; write fatal or ignore",
        ),
        ("{XID79: fatal}", 'health.xids: "XID79" is not an Xid; write a number such as 79'),
        ("{0: fatal}", 'health.xids: "0" is not an Xid; write a number such as 79'),
        ("{-79: fatal}", 'health.xids: "-79" is not an Xid; write a number such as 79'),
        ("{79.5: fatal}", 'health.xids: "79.5" is not an Xid; write a number such as 79'),
        ("{true: fatal}", 'health.xids: "True" is not an Xid; write a number such as 79'),
        ('{"079": fatal}', 'health.xids: "079" is not an Xid; write a number such as 79'),
        ("{all: fatal}", 'health.xids: "all" is not an Xid; write a number such as 79'),
        ("[79]", "health.xids: write Xids with fatal or ignore, such as {79: fatal}"),
        ("79", "health.xids: write Xids with fatal or ignore, such as {79: fatal}"),
        ('{79: fatal, "79": ignore}', 'the key "79" is given twice'),
    ],
)
def test_a_bad_rule_is_one_clear_line(tmp_path: Path, rules: str, told: str) -> None:
    """A rule that cannot be used is refused in one line with its place and what is allowed."""
    with pytest.raises(settings.SettingsError) as caught:
        load(tmp_path, f"health: {{xids: {rules}}}", {})
    line = str(caught.value)
    assert line.startswith(f'cannot use the configuration file "{tmp_path}/config": ')
    assert told in line
    assert "\n" not in line


def test_the_environment_is_read_with_the_settings(tmp_path: Path) -> None:
    """Both variables come with the settings, and a malformed token is a notice, not an error."""
    environment = {DISABLE: "all,bad", ENABLE: "79,worse"}
    loaded = load(tmp_path, "health: {xids: {94: fatal}}", environment)
    assert loaded.xids == Wishes({94: True}, EVERYTHING, chosen(79))
    assert loaded.notices == (
        f'cannot use "bad" in {DISABLE}: write Xids or all',
        f'cannot use "worse" in {ENABLE}: write Xids or all',
    )


def test_the_list_as_text() -> None:
    """The text is aligned, says who decided where the table did not, and ends with the rest."""
    wishes = Wishes({94: True}, chosen(79), chosen())
    lines = listing.as_text(wishes).split("\n")
    found = {line.split()[0]: line for line in lines}
    assert len(lines) == 1 + len(ALL) + 1
    assert found["94"].split("  ")[-1] == "health.xids"
    assert found["79"].split()[-2:] == ["no", DISABLE]
    assert found["31"].split()[-1] == "no"
    assert lines[-1].split()[0] == "other"
    assert {line.index(one.action) for one, line in zip(_sorted(), lines[1:], strict=False)} == {
        lines[0].index("action")
    }


def _sorted() -> list[xid_catalogue.Xid]:
    return [xid_catalogue.TABLE[code] for code in sorted(xid_catalogue.TABLE)]
