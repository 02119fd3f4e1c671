"""The events of the stand-in for the MPS daemon."""

from simulator.mps.roster import Roster
from simulator.mps.steering import Steering


def test_a_descriptor_that_is_opened_anew_has_not_been_ready() -> None:
    """The end of a server may start another one, whose descriptors get the same numbers.

    The daemon waited for the end of that server, which ran, and so never answered again.
    """
    roster = Roster(lambda _: None, Steering("", "", ""), "", multi_user=True)
    done: list[str] = []

    def end() -> None:
        done.append("end")
        del roster.events[4]
        roster.events[5] = lambda: done.append("another")

    roster.events |= {4: end, 5: lambda: done.append("own"), 6: lambda: done.append("last")}
    roster.react([4, 5, 6, 7])
    assert done == ["end", "last"]
