"""The process that reads the configuration: what it hands over, and what ends it."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from proto.control import ExitCode
from supervisor.child import Process, Spec
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import SettingsError
from supervisor.reading import TOO_SLOW, WITHIN, Job, Reading, main

if TYPE_CHECKING:
    from proto.channel import Channel

NOW = 100.0


class Reader:
    """Stands in for the process; runs in this one when told to."""

    def __init__(self, spec: Spec, epoch: int) -> None:
        assert isinstance(spec.settings, Job)
        assert spec.descriptors == {spec.settings.result}
        assert epoch == 1
        self.job = spec.settings
        self.code = -9
        self.kills = 0
        self.sentinel, self._end = os.pipe()

    def run(self) -> None:
        """Do what the process does, and end."""
        self.code = main(self.job, cast("Channel", None), 1)
        os.close(self._end)

    def kill(self) -> None:
        """End without a result."""
        self.kills += 1
        os.close(self._end)

    def reap(self) -> int:
        """Return the exit code."""
        os.close(self.sentinel)
        return self.code


def good(wish: Wish) -> bytes:
    """Return settings."""
    return f"settings of {wish.label}".encode()


def bad(wish: Wish) -> bytes:
    """Refuse the settings."""
    raise SettingsError(f'cannot use the label "{wish.label}"')


@pytest.fixture
def readers() -> Iterator[list[Reader]]:
    """Collect the processes that are started."""
    made: list[Reader] = []
    yield made
    assert len(made) == 1


def begin(readers: list[Reader], read: object) -> Reading:
    """Begin to read with *read*."""

    def fork(spec: Spec, epoch: int) -> Process:
        readers.append(Reader(spec, epoch))
        return cast("Process", readers[-1])

    assert callable(read)
    return Reading(fork, read, Wish("one"), NOW)


def test_the_settings_are_handed_over(readers: list[Reader]) -> None:
    """What the process has read is the result."""
    reading = begin(readers, good)
    readers[0].run()
    assert readers[0].code == ExitCode.DONE
    assert reading.result() == b"settings of one"


def test_a_refusal_is_handed_over(readers: list[Reader]) -> None:
    """The reason of a refusal arrives as it was written."""
    reading = begin(readers, bad)
    readers[0].run()
    with pytest.raises(SettingsError, match='cannot use the label "one"'):
        reading.result()


def test_a_process_that_dies_is_a_refusal(readers: list[Reader]) -> None:
    """The reason says how the process ended."""
    reading = begin(readers, good)
    readers[0].kill()
    with pytest.raises(SettingsError, match="it ended: killed by SIGKILL"):
        reading.result()


def test_a_process_that_takes_too_long_is_a_refusal(readers: list[Reader]) -> None:
    """The reason says how long it may take."""
    reading = begin(readers, good)
    assert reading.deadline == NOW + WITHIN
    reading.kill()
    assert reading.deadline is None
    assert readers[0].kills == 1
    with pytest.raises(SettingsError) as error:
        reading.result()
    assert str(error.value) == TOO_SLOW
