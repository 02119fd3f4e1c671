"""The warning that the node's label is still missing."""

import time
from collections.abc import Iterator

import pytest
from loguru import logger

from proto.advertising import Advertising
from supervisor.child import Process, Spec
from supervisor.config.choose_file import Wish
from supervisor.plan import Plan
from supervisor.reload import LABEL_WITHIN, Reload
from supervisor.restart_policy import Limits
from supervisor.state import Service, ServiceSource

PROBLEM = "cannot read the node's label: the API server has not answered yet"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect the reasons that are logged."""
    found: list[str] = []
    sink = logger.add(lambda line: found.append(line.record["extra"].get("reason", "")))
    yield found
    logger.remove(sink)


def fork(spec: Spec, epoch: int) -> Process:
    """Fork nothing."""
    raise AssertionError(spec, epoch)


def read(wish: Wish) -> bytes:
    """Return the label."""
    return b"" if wish.label is None else wish.label.encode()


def compose(label: bytes) -> Service:
    """Return a service whose configuration depends on the label."""
    problem = "" if label else PROBLEM
    return Service(
        children=(),
        plan=lambda _: Plan(()),
        advertising=lambda _, __: Advertising(),
        worker=lambda plan: Spec(plan.resource, "none", None),
        fork=fork,
        runtime_dir="",
        kubelet_socket="",
        fail_on_init_error=False,
        exit_without_access=0.0,
        limits=Limits(),
        configuration_hash=label.decode(),
        configuration_problem=problem,
    )


def test_no_warning_within_a_second(lines: list[str]) -> None:
    """The start itself and the first second warn of nothing; afterwards it is said once."""
    reload, now = Reload(ServiceSource(read, compose)), time.monotonic()
    reload.warn(now + LABEL_WITHIN / 2)
    assert lines == []
    for late in (1, 2):
        reload.warn(now + late * (LABEL_WITHIN + 1))
    assert lines == [PROBLEM]


def test_no_warning_after_the_label(lines: list[str]) -> None:
    """A label that was read in time leaves nothing to warn of."""
    reload = Reload(ServiceSource(read, compose))
    reload.labelled("two")
    wish = reload.wish(time.monotonic())
    reload.take(lambda: read(wish), time.monotonic())
    reload.warn(time.monotonic() + LABEL_WITHIN + 1)
    assert PROBLEM not in lines


def test_the_warning_says_why(lines: list[str]) -> None:
    """What the API server answered is the reason of the warning and of the status."""
    reload = Reload(ServiceSource(read, compose))
    reload.unlabelled("403 Forbidden")
    reload.warn(time.monotonic() + LABEL_WITHIN + 1)
    assert lines == ["cannot read the node's label: 403 Forbidden"] == [reload.state.problem]
