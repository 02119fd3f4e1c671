"""Figures that tests measure, shown at the end of the run."""

FIGURES: list[str] = []


def show(what: str, milliseconds: list[float]) -> None:
    """Note how long *what* took, for the end of the run."""
    FIGURES.append(f"{what}: {', '.join(f'{ms:.0f}' for ms in sorted(milliseconds))} ms")
