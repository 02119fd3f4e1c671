"""Readers of outside bytes, with random input and with input that once broke a reader."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, kept

KEPT = [(target, path) for target in TARGETS for path in kept(target)]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=512))
def test_random_bytes_break_nothing(target: str, data: bytes) -> None:
    """The promise of a fuzz target holds for random bytes."""
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
@given(text=st.text(max_size=200))
def test_random_text_breaks_nothing(target: str, text: str) -> None:
    """The promise of a fuzz target holds for random text."""
    TARGETS[target](text.encode(errors="surrogatepass"))


@pytest.mark.parametrize(("target", "path"), KEPT, ids=[f"{t}-{p.name}" for t, p in KEPT])
def test_input_that_once_broke_a_reader(target: str, path: Path) -> None:
    """The promise of a fuzz target holds for input that once broke its reader."""
    TARGETS[target](path.read_bytes())


def test_there_are_kept_inputs() -> None:
    """There are kept inputs, and each of their folders is named after a target."""
    folder = Path(__file__).parents[1] / "fuzz/regressions"
    assert KEPT
    assert {path.name for path in folder.iterdir()} <= set(TARGETS)
