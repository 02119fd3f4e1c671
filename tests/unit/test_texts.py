"""Texts that go into messages: printable, and never longer than their limit."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.access import refusal
from health.nvml import Code
from proto import requests
from proto.advertising import MigStrategy
from proto.cluster import Labelled, Unlabelled
from proto.control import MarkHealthy
from proto.problem import Problem
from proto.requests import Answer
from proto.texts import GAP, MOST_NAMES, NAME_LIMIT, TEXT_LIMIT, few, printable, shortened
from supervisor.cluster.label_report import told
from supervisor.commands.ask import AskError, ask
from supervisor.config.choose_file import Wish, choose
from supervisor.config.refusal import SettingsError
from supervisor.maintenance import MARKED
from supervisor.plan import Rules, plan
from tests.unit.builders import inventory, mig_gpu

LONGEST = MOST_NAMES * (NAME_LIMIT + 2) + 30
"""Most characters of a list of names."""

any_text = st.text(st.characters(codec=None)) | st.integers(0, 3000).map(lambda n: n * "\udcff")
"""Texts with every character, also those of file names that are not UTF-8, short and long."""


@given(any_text, st.integers(20, TEXT_LIMIT))
def test_a_text_keeps_its_limit(text: str, limit: int) -> None:
    """A text is printable and not over its limit; one that is short and printable stays."""
    shown = shortened(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode()
    assert printable(text) == shown or GAP in shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, ""),
        (1, "0"),
        (8, "0, 1, 2, 3, 4, 5, 6, 7"),
        (9, "0, 1, 2, 3, 4, 5, 6, 7 and 1 more"),
        (7998, "0, 1, 2, 3, 4, 5, 6, 7 and 7,990 more"),
    ],
)
def test_few_of_many(count: int, shown: str) -> None:
    """Eight names are shown, and the others are counted."""
    assert few([str(place) for place in range(count)]) == shown


@given(st.lists(any_text, max_size=20))
def test_few_of_any_names(names: list[str]) -> None:
    """A list of names is limited also when a name is very long."""
    shown = few(names)
    assert len(shown) <= LONGEST
    assert shown.isprintable()


@given(st.lists(any_text.filter(bool), max_size=20), any_text.filter(bool))
def test_the_problem_of_a_label_is_short(files: list[str], label: str) -> None:
    """A label that names no file is told in a short text, whatever the names of the files are."""
    if label not in files:
        text = choose(files, Wish(label, last=""), "", ()).problem
        assert len(text) <= LONGEST + 300
        assert msgspec.msgpack.encode(text)


@given(any_text)
def test_reports_of_any_text_are_short(text: str) -> None:
    """What a process reports has a text that can be sent, whatever the cause says."""
    for report in (refusal(text, Code.LIBRARY_NOT_FOUND, Path("/proc")), told(text)):
        assert len(msgspec.msgpack.encode(report)) <= 4 * TEXT_LIMIT + 200
    assert len(str(SettingsError(text))) <= TEXT_LIMIT


@pytest.mark.parametrize("value", ["", "a", "A-b_c.9", "x" * 63])
def test_a_label_that_kubernetes_allows_is_reported(value: str) -> None:
    """Each value that a label can have is passed on."""
    assert told(value) == Labelled(value)


@pytest.mark.parametrize("value", ["x" * 64, "x" * 300_000, "../x", "a\n", "-a", "\ud800", "ü"])
def test_a_label_that_kubernetes_does_not_allow_is_a_problem(value: str) -> None:
    """A value that no label can have chooses no file; the supervisor is told so."""
    report = told(value)
    assert isinstance(report, Unlabelled)
    assert report.reason.endswith('", which no label can have')


def test_a_mig_layout_of_many_gpus_is_short() -> None:
    """The problems of MIG layouts name eight GPUs and count the others."""
    mixed = [mig_gpu(place, *["1g.10gb", "2g.20gb"][place % 2 :][:1]) for place in range(64)]
    (single,) = plan(Rules(mig=MigStrategy.SINGLE), inventory(*mixed)).problems
    assert "GPU 7: 2g.20gb and 56 more; create" in single.text
    empty = [mig_gpu(place) for place in range(64)]
    (problem,) = plan(Rules(mig=MigStrategy.MIXED), inventory(*empty)).problems
    assert isinstance(problem, Problem)
    assert problem.text.startswith("GPU 0, 1, 2, 3, 4, 5, 6, 7 and 56 more: MIG mode is on")


def test_a_request_that_is_too_long_is_refused_by_the_command(tmp_path: Path) -> None:
    """A request that the service would cut off is not sent; the error says the limit."""
    with pytest.raises(AskError, match=r"^cannot send the request: it has .* at most 4096 bytes$"):
        ask(tmp_path, MarkHealthy("x" * requests.LIMIT))


@given(any_text)
def test_the_answer_about_any_device_fits(device: str) -> None:
    """The client can read the whole answer about a device with a long name."""
    answer = Answer(done=MARKED.format(shortened(device, NAME_LIMIT)))
    assert len(requests.encode(answer)) <= requests.LIMIT
