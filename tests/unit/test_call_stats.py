"""The calls of all threads, added up."""

import pytest

from health.call_stats import Totals, total
from health.nvml import Code, Nvml, NvmlError
from proto.calls import CallStats


class Driver:
    """A binding whose calls succeed or fail."""

    class NVMLError(Exception):
        """What the binding raises."""

        value = int(Code.GPU_IS_LOST)

    def works(self) -> int:
        """Answer."""
        return 1

    def fails(self) -> int:
        """Fail."""
        raise self.NVMLError


def test_calls_of_all_threads_are_added_up() -> None:
    """Counts, times and errors of a function are the sums of those of all threads."""
    first = CallStats("a", 2, 0.5, {15: 1}), CallStats("b", 1, 0.25)
    second = (CallStats("b", 3, 0.5, {15: 2, 999: 1}),)
    third = (CallStats("b", 1, 0.25, {15: 1}),)
    assert total([*first, *second, *third]) == (
        CallStats("a", 2, 0.5, {15: 1}),
        CallStats("b", 5, 1.0, {15: 3, 999: 1}),
    )


def test_calls_are_added_up_again_only_after_a_new_one() -> None:
    """While no thread calls the driver, the result is the same object; a failed call counts too."""
    threads = [Nvml(Driver()), Nvml(Driver())]
    totals = Totals()
    threads[0].call("works")
    before = totals.of(threads)
    assert totals.of(threads) is before
    with pytest.raises(NvmlError):
        threads[1].call("fails")
    assert {c.call: (c.count, c.errors) for c in totals.of(threads)} == {
        "works": (1, {}),
        "fails": (1, {15: 1}),
    }
    assert [c.call for c in totals.of(threads[:1])] == ["works"]
