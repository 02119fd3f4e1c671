"""The table of Xids, compared with NVIDIA's catalogue."""

import pytest

from health.xid_catalogue import TABLE, Action, lookup

CATALOGUE = {
    Action.IGNORE: {
        *(14, 37, 38, 43, 44, 45, 63, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 147, 148),
        *(152, 153, 154, 157, 160, 161, 162, 163, 164, 165, 168),
    },
    Action.RESTART_APP: {
        *(8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84),
        *(85, 86, 88, 89, 94, 96, 97, 98, *range(99, 106), *range(126, 136), 139),
    },
    Action.RESET_GPU: {
        *(46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 144, 145, 146, 149, 150),
        *(155, 156, 158, 159, 167, 169, 171, 172),
    },
    Action.REBOOT: {79, 151},
}
"""Xids by the catalogue's (last) action; for all others: contact support."""

NVIDIA_IGNORES = {13, 31, 43, 45, 68, 109}


def test_every_xid_is_known() -> None:
    """The table has each Xid up to the catalogue's highest, under its own number."""
    assert sorted(TABLE) == list(range(1, 173))
    assert all(code == xid.xid for code, xid in TABLE.items())


def test_no_xid_is_in_two_groups() -> None:
    """Each Xid is in one group only, so that no later row hides an earlier row."""
    from health import xid_catalogue  # noqa: PLC0415 - only this test looks inside

    groups = (
        xid_catalogue.IGNORE,
        xid_catalogue.RESTART_APP,
        xid_catalogue.RESET_GPU,
        xid_catalogue.REBOOT,
        xid_catalogue.CONTACT_SUPPORT,
    )
    assert sum(map(len, groups)) + len(xid_catalogue.UNUSED) == len(TABLE)
    assert set(xid_catalogue.OLD_NAMES) <= set(xid_catalogue.UNUSED)


@pytest.mark.parametrize("action", CATALOGUE)
def test_the_action_is_the_catalogues(action: Action) -> None:
    """Each Xid has the action that the catalogue recommends."""
    assert {code for code, xid in TABLE.items() if xid.action is action} == CATALOGUE[action]


def test_all_other_xids_are_for_support() -> None:
    """Xids without another action in the catalogue have the action to contact support."""
    rest = TABLE.keys() - set().union(*CATALOGUE.values())
    assert {TABLE[code].action for code in rest} == {Action.CONTACT_SUPPORT}


def test_every_xid_has_a_name_and_a_meaning() -> None:
    """Each Xid has a short name, and a sentence with its meaning."""
    for xid in TABLE.values():
        assert 0 < len(xid.name) <= 32
        assert xid.meaning.endswith(".")
        assert "\n" not in xid.name + xid.meaning


@pytest.mark.parametrize(("code", "engine"), [(39, 0), (70, 3), (85, 9), (126, 10), (135, 19)])
def test_copy_engines_are_numbered(code: int, engine: int) -> None:
    """The Xids of copy engines have the right engine numbers."""
    assert TABLE[code].name == f"copy engine {engine} error"


def test_an_xid_is_fatal_if_it_needs_a_reset_or_more() -> None:
    """An Xid is fatal if its action is a reset or more, except 78, a vGPU's start."""
    hands = {Action.RESET_GPU, Action.REBOOT, Action.CONTACT_SUPPORT}
    assert {c for c, xid in TABLE.items() if xid.fatal != (xid.action in hands)} == {78}


def test_the_difference_to_nvidias_plugin() -> None:
    """Of the Xids that NVIDIA's plugin ignores, only 109 is fatal: it needs a reset."""
    assert {code for code in NVIDIA_IGNORES if TABLE[code].fatal} == {109}
    assert not TABLE[63].fatal
    assert not TABLE[94].fatal


@pytest.mark.parametrize("code", [0, 173, 555, 99999])
def test_an_unknown_xid_is_fatal(code: int) -> None:
    """An Xid that is not in the catalogue is fatal."""
    assert (lookup(code).fatal, lookup(code).xid) == (True, code)
    assert lookup(code).name
