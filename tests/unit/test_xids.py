"""Which Xids make a GPU unfit for new pods."""

import pytest

from health.xids import HARMLESS, is_fatal


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 68, 109])
def test_an_xid_of_an_application_is_harmless(xid: int) -> None:
    """Xids that an application causes leave the GPU fit, as with NVIDIA's own plugin."""
    assert is_fatal(xid) is False


@pytest.mark.parametrize("xid", [0, 1, 48, 63, 64, 74, 79, 94, 95, 119, 143, 99999])
def test_every_other_xid_is_fatal(xid: int) -> None:
    """An Xid that is not known to be harmless is fatal, also one that nobody has heard of."""
    assert is_fatal(xid) is True


def test_no_other_xid_is_harmless() -> None:
    """The list of harmless Xids is exactly this one, each with its reason."""
    assert sorted(HARMLESS) == [13, 31, 43, 45, 68, 109]
    assert all(HARMLESS.values())
