"""Every reader of outside bytes keeps its promise for random bytes, and for what once broke one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, kept

KEPT = [(target, path) for target in TARGETS for path in kept(target)]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=512))
def test_random_bytes_break_nothing(target: str, data: bytes) -> None:
    """Random bytes are answered as the target promises."""
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
@given(text=st.text(max_size=200))
def test_random_text_breaks_nothing(target: str, text: str) -> None:
    """Random text is answered as the target promises."""
    TARGETS[target](text.encode(errors="surrogatepass"))


@pytest.mark.parametrize(("target", "path"), KEPT, ids=[f"{t}-{p.name}" for t, p in KEPT])
def test_what_once_broke_a_reader_does_not_any_more(target: str, path: Path) -> None:
    """An input that was found is answered as the target promises."""
    TARGETS[target](path.read_bytes())


def test_there_are_kept_inputs() -> None:
    """The inputs are found where they are looked for, and each belongs to a target."""
    folder = Path(__file__).parents[1] / "fuzz/regressions"
    assert KEPT
    assert {path.name for path in folder.iterdir()} <= set(TARGETS)
