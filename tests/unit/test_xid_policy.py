"""The Xid policy: which Xids are fatal by the table, the file and the environment."""

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
from supervisor.config.refusal import SettingsError

EVERYTHING = Selection(everything=True)
FATAL = {code for code, xid in xid_catalogue.TABLE.items() if xid.fatal}
ALL = set(xid_catalogue.TABLE)
UNHEARD_OF = 555


def chosen(*codes: int) -> Selection:
    """Return the selection of these Xids."""
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
def test_a_variable_is_a_list_of_xids(
    text: str, selection: Selection, malformed: list[str]
) -> None:
    """A variable lists Xids, `all` or `xids`; malformed tokens are ignored with a notice."""
    expected = tuple(f"ignored {json.dumps(token)} in V: write Xids or all" for token in malformed)
    assert select("V", text) == (selection, expected)


def test_all_selects_every_xid() -> None:
    """A list with `all` selects every Xid, and still gives a notice for a malformed token."""
    selection, notices = select("V", "13,all,nonsense")
    assert 79 in selection
    assert UNHEARD_OF in selection
    assert len(notices) == 1


@given(st.lists(st.one_of(st.text(), st.integers().map(str), st.sampled_from(["all", "xids"]))))
def test_any_text_of_a_variable(tokens: list[str]) -> None:
    """Each token of any text is an Xid, `all`, `xids`, empty, or has one notice."""
    text = ",".join(tokens)
    selection, notices = select("V", text)
    found = {token.strip() for token in text.split(",")} - {""}
    words = {token for token in found if token.lower() in {"all", "xids"}}
    understood = {token for token in found - words if token.isascii() and token.isdecimal()}
    understood = {token for token in understood if 0 < int(token) <= 999_999_999}
    assert selection == Selection(bool(words), frozenset(map(int, understood)))
    assert len(notices) == len(found - words - understood)
    assert all(notice.isprintable() and notice.isascii() for notice in notices)


@given(st.sets(st.integers(1, 999_999_999)))
def test_a_list_of_xids_is_understood(codes: set[int]) -> None:
    """A list of Xids selects exactly these Xids."""
    assert select("V", " , ".join(map(str, codes))) == (chosen(*codes), ())


def fatal(wishes: Wishes, among: Iterable[int]) -> set[int]:
    """Return the Xids of *among* that are fatal for the monitor."""
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
def test_both_variables_together(disabled: str, enabled: str, expected: set[int]) -> None:
    """An enabled Xid is fatal even if it is disabled too, as NVIDIA documents."""
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
    """The environment wins over the file, the file over the table; the source is shown."""
    wishes = Wishes(file, select(DISABLE, disabled)[0], select(ENABLE, enabled)[0])
    row = judge(wishes, 79)
    assert (row.fatal, row.source) == expected
    assert policy(wishes).is_fatal(79) is row.fatal


codes = st.integers(1, 200)
selections = st.builds(Selection, st.booleans(), st.frozensets(codes))


@given(st.builds(Wishes, st.dictionaries(codes, st.booleans()), selections, selections), codes)
def test_the_monitors_policy_agrees_with_the_list(wishes: Wishes, code: int) -> None:
    """The policy that the monitor gets agrees with the list on every Xid."""
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(policy(wishes)), type=XidPolicy)
    assert told.is_fatal(code) == judge(wishes, code).fatal
    assert all(told.is_fatal(row.xid.xid) == row.fatal for row in rows(wishes))


def test_by_an_empty_policy_every_xid_is_fatal() -> None:
    """With an empty policy, every Xid is fatal."""
    assert all(XidPolicy().is_fatal(code) for code in (0, *ALL, UNHEARD_OF))


def test_the_list_has_all_named_xids() -> None:
    """The list has each Xid of the table and of the settings once, sorted by number."""
    wishes = Wishes({600: False}, chosen(500, 79), chosen(400))
    listed = [row.xid.xid for row in rows(wishes)]
    assert listed == [*sorted(ALL), 400, 500, 600]


def load(folder: Path, text: str, environment: Mapping[str, str]) -> settings.Settings:
    """Return the settings from a file with this *text* and from the environment."""
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
    """Xids in the file may be numbers or texts, and their source is the file."""
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
def test_a_bad_rule_is_refused_with_one_line(tmp_path: Path, rules: str, told: str) -> None:
    """A bad rule for Xids is refused with one line that has its place and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"health: {{xids: {rules}}}", {})
    line = str(caught.value)
    assert line.startswith(f'cannot use the configuration file "{tmp_path}/config": ')
    assert told in line
    assert "\n" not in line


def test_the_environment_is_read_with_the_settings(tmp_path: Path) -> None:
    """The settings include both variables; a malformed token is a notice, not an error."""
    environment = {DISABLE: "all,bad", ENABLE: "79,worse"}
    loaded = load(tmp_path, "health: {xids: {94: fatal}}", environment)
    assert loaded.xids == Wishes({94: True}, EVERYTHING, chosen(79))
    assert loaded.notices == (
        f'ignored "bad" in {DISABLE}: write Xids or all',
        f'ignored "worse" in {ENABLE}: write Xids or all',
    )


def test_the_text_of_the_list() -> None:
    """The text of the list is aligned, shows sources, and ends with a row for other Xids."""
    wishes = Wishes({94: True}, chosen(79), chosen())
    lines = listing.as_text(wishes).split("\n")
    found = {line.split()[0]: line for line in lines}
    assert len(lines) == 1 + len(ALL) + 1
    assert found["94"].split("  ")[-1].strip() == "health.xids"
    assert found["79"].split()[-2:] == ["no", DISABLE]
    assert found["31"].split()[-1] == "no"
    assert lines[-1].split()[0] == "other"
    assert {line.index(xid.action) for xid, line in zip(_sorted(), lines[1:], strict=False)} == {
        lines[0].index("action")
    }


def test_the_table_tells_of_which_xids_the_driver_decides() -> None:
    """The driver's word decides about the Xids 144 to 150, unless a setting ignores one."""
    wishes = Wishes({145: False, 149: True})
    lines = {line.split()[0]: line for line in listing.as_text(wishes).split("\n")}
    assert "yes, unless Nonfatal" in lines["144"]
    assert "yes, unless Nonfatal" in lines["149"]
    assert "no, unless Fatal" in lines["147"]
    assert "unless" not in lines["145"] + lines["79"] + lines["other"]
    table = {row["xid"]: row["followsDriver"] for row in json.loads(listing.as_json(wishes))}
    assert {xid for xid, follows in table.items() if follows} == {144, *range(146, 151)}
    assert policy(wishes).ignored == {145}
    assert policy(Wishes(disabled=Selection(everything=True))).ignored == {*range(144, 151)}
    assert policy(Wishes()).ignored == frozenset()


@given(st.text(), st.text())
def test_any_text_of_the_variables_is_a_table(disabled: str, enabled: str) -> None:
    """Whatever the variables contain, the table can be printed, and the monitor gets a policy."""
    loaded = settings.load({}, {DISABLE: disabled, ENABLE: enabled})
    assert all(notice.isprintable() for notice in loaded.notices)
    table = json.loads(listing.as_json(loaded.xids))
    assert len(table) == len(listing.as_text(loaded.xids).split("\n")) - 2
    assert msgspec.msgpack.encode(policy(loaded.xids))


def _sorted() -> list[xid_catalogue.Xid]:
    return [xid_catalogue.TABLE[code] for code in sorted(xid_catalogue.TABLE)]
