"""Figures that tests measure, shown at the end of the run."""

from collections.abc import Callable

FIGURES: list[str] = []

TRIES = 5


def show(what: str, milliseconds: list[float]) -> None:
    """Note how long *what* took, for the end of the run."""
    FIGURES.append(f"{what}: {', '.join(f'{ms:.0f}' for ms in sorted(milliseconds))} ms")


def within(most: float, what: str, measure: Callable[[], float]) -> None:
    """Measure until a try takes *most* ms or fewer; fail when of a few tries none does.

    Other work on the machine makes some tries slower, and must not fail a test.
    """
    took = [measure()]
    while took[-1] > most and len(took) < TRIES:
        took.append(measure())
    show(what, took)
    assert took[-1] <= most, f"{what}: {took} ms, at most {most} are allowed"
