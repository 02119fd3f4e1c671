"""The table of Xids against what NVIDIA's catalogue says."""

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
"""Xids by the action that the catalogue gives, or ends in; all others go to the support."""

NVIDIA_IGNORES = {13, 31, 43, 45, 68, 109}


def test_every_xid_is_known() -> None:
    """The table has every Xid up to the highest of the catalogue, each under its own number."""
    assert sorted(TABLE) == list(range(1, 173))
    assert all(code == one.xid for code, one in TABLE.items())


def test_no_xid_is_in_two_groups() -> None:
    """Every Xid of the table is listed once, so that no later row hides an earlier one."""
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
    """Every Xid has the action that the catalogue recommends."""
    assert {code for code, one in TABLE.items() if one.action is action} == CATALOGUE[action]


def test_the_rest_goes_to_the_support() -> None:
    """What has no other action is for NVIDIA's support."""
    rest = TABLE.keys() - set().union(*CATALOGUE.values())
    assert {TABLE[code].action for code in rest} == {Action.CONTACT_SUPPORT}


def test_every_xid_is_told_in_words() -> None:
    """Every Xid has a name of a few words, and a sentence that says what it means."""
    for one in TABLE.values():
        assert 0 < len(one.name) <= 32
        assert one.meaning.endswith(".")
        assert "\n" not in one.name + one.meaning


@pytest.mark.parametrize(("code", "engine"), [(39, 0), (70, 3), (85, 9), (126, 10), (135, 19)])
def test_copy_engines_are_numbered(code: int, engine: int) -> None:
    """The copy engines' Xids are not in one row, but in order."""
    assert TABLE[code].name == f"copy engine {engine} error"


def test_fatal_is_what_needs_hands_on_the_gpu() -> None:
    """An Xid is fatal if its action is a reset or more; only a vGPU's start says nothing."""
    hands = {Action.RESET_GPU, Action.REBOOT, Action.CONTACT_SUPPORT}
    assert {c for c, one in TABLE.items() if one.fatal != (one.action in hands)} == {78}


def test_the_difference_to_nvidias_plugin() -> None:
    """Of what NVIDIA's plugin ignores only 109 is fatal here, as the catalogue wants a reset."""
    assert {code for code in NVIDIA_IGNORES if TABLE[code].fatal} == {109}
    assert not TABLE[63].fatal
    assert not TABLE[94].fatal


@pytest.mark.parametrize("code", [0, 173, 555, 99999])
def test_an_xid_that_nobody_knows_is_fatal(code: int) -> None:
    """Not knowing is unhealthy."""
    assert (lookup(code).fatal, lookup(code).xid) == (True, code)
    assert lookup(code).name
