"""The status page in a real browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import COMMAND, Browser, browser
from tests.fakes.exporter import Answer, busy, exporter

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which(COMMAND), reason=f"needs {COMMAND}"),
]

ARTEFACTS = Path(os.environ.get("E2E_ARTEFACTS", Path(__file__).parent.parent / "artefacts"))

CHANGED = b"16 of 28", b"15 of 28"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    """Open a browser."""
    with browser(tmp_path / "profile") as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width"), [("desktop", 1280), ("phone", 375)])
def test_the_page_fits_and_requests_no_other_url(
    tab: Browser, device: str, width: int, scheme: str
) -> None:
    """The page fits the window, and the browser reports no problem and requests no other URL."""
    with exporter(busy) as url:
        tab.resize(width, 800)
        tab.prefer(scheme)
        tab.visit(f"{url}/")
        ARTEFACTS.mkdir(exist_ok=True)
        tab.screenshot(ARTEFACTS / f"status-{device}-{scheme}.png")
        tab.evaluate("refresh()")

        assert tab.evaluate("document.querySelectorAll('article').length") == 8
        assert tab.evaluate("document.title").startswith("gpu-17: 4 of 8 GPUs are not healthy")
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        # The style and the script were applied, so the content security policy allows them.
        assert tab.evaluate("getComputedStyle(document.querySelector('.gpus')).display") == "grid"
        bars = "[...document.querySelectorAll('svg.memory rect')]"
        assert tab.evaluate("document.querySelectorAll('svg.memory').length") == 7
        assert (
            tab.evaluate(f"{bars}.some(r => getComputedStyle(r).fill === 'rgb(0, 0, 0)')") is False
        )
        assert tab.evaluate(f"{bars}.every(r => r.getBoundingClientRect().width > 0)") is True
        hour = "document.querySelector('svg.hour .line').getBoundingClientRect()"
        assert tab.evaluate(f"{hour}.width") > 200
        assert tab.evaluate(f"{hour}.height") > 10
        assert tab.complaints() == []
        assert tab.requested() == {f"{url}/"}


def test_a_refresh_keeps_the_scroll_position(tab: Browser) -> None:
    """A refresh changes the figures, but not the scroll position or the folded sections."""
    changed = False

    def answers(path: str) -> Answer:
        code, body, headers = busy(path)
        return code, body.replace(*CHANGED) if changed else body, headers

    with exporter(answers) as url:
        tab.resize(1280, 800)
        tab.visit(f"{url}/")
        tab.evaluate("document.querySelector('.share details').open = false")
        tab.evaluate("window.scrollTo(0, 700)")
        changed = True
        tab.evaluate("refresh()")

        assert tab.evaluate("window.scrollY") == 700
        assert tab.evaluate("document.querySelector('.share details').open") is False
        assert tab.evaluate("document.querySelectorAll('details[open]').length") > 0
        assert "15 of 28" in tab.evaluate("document.querySelector('main').innerText")


def test_old_figures_are_marked(tab: Browser) -> None:
    """When the service does not answer, the page says that its figures are old."""
    shown = "getComputedStyle(document.getElementById('stale')).display"
    answering = True

    with exporter(lambda path: busy(path) if answering else (503, b"", ())) as url:
        tab.visit(f"{url}/")
        before = tab.evaluate(shown)
        answering = False
        tab.evaluate("refresh()")
        silent = tab.evaluate(shown)
        cards = tab.evaluate("document.querySelectorAll('article').length")
        answering = True
        tab.evaluate("refresh()")

        assert (before, silent, tab.evaluate(shown)) == ("none", "block", "none")
        assert cards == 8
