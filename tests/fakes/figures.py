"""Times that tests measure, shown at the end of the run."""

from collections.abc import Callable

FIGURES: list[str] = []

TRIES = 5


def show(what: str, milliseconds: list[float]) -> None:
    """Add a line with the measured times of *what*, shown at the end of the run."""
    FIGURES.append(f"{what}: {', '.join(f'{ms:.0f}' for ms in sorted(milliseconds))} ms")


def within(most: float, what: str, measure: Callable[[], float]) -> None:
    """Measure until one try takes at most *most* ms; fail when no try of a few does.

    Other work on the machine makes some tries slower; this must not fail a test.
    """
    took = [measure()]
    while took[-1] > most and len(took) < TRIES:
        took.append(measure())
    show(what, took)
    assert took[-1] <= most, f"{what}: {took} ms, at most {most} are allowed"
