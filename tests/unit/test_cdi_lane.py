"""The lane that keeps the CDI specifications: what it waits for, and when it tries again."""

import json
import math
import select
from pathlib import Path

import msgspec
import pytest

from health import cdi
from health.cdi_lane import CdiLane, CdiWritten
from health.lane import Done, Mailbox
from proto.monitor import CdiSettings, MonitorSettings
from proto.paths import Paths
from tests.unit.builders import gpu, mig_gpu

BEFORE, AFTER = mig_gpu(0, "1g.10gb"), mig_gpu(0, "2g.20gb")


class Waiting:
    """A lane on a host without nvidia-ctk, and the mailbox into which it reports."""

    def __init__(
        self, folder: Path, modes: tuple[str, ...] = (), imex_channels: tuple[int, ...] = ()
    ) -> None:
        self.mailbox = Mailbox()
        root = str(folder)
        settings = MonitorSettings(
            Paths(root, root, root, root),
            "health.binding",
            root,
            imex_channels=imex_channels,
            whole_gpus=False,
        )
        wanted = CdiSettings(root, "v", "gpu", "index", f"{root}/hook", root, root, root)
        wanted = msgspec.structs.replace(wanted, modes=modes)
        self.cdi = CdiLane(settings, wanted, self.mailbox)

    def finish(self, now: float) -> None:
        """Let the lane take the result of its job, as the monitor's loop does."""
        assert select.select([self.mailbox.fileno()], [], [], 60)[0]
        (done,) = self.mailbox.take()
        assert isinstance(done, Done)
        assert isinstance(done.result, CdiWritten)
        done.lane.busy = False
        self.cdi.take(done.result, now)


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """Return a lane that has looked for nvidia-ctk twice, in vain, and knows one MIG instance."""
    monkeypatch.setenv("PATH", str(tmp_path))
    made = Waiting(tmp_path)
    made.cdi.open()
    made.finish(0.0)
    made.cdi.step([BEFORE], 0.0, complete=True)
    made.finish(0.0)
    return made


def test_a_start_waits_for_two_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try does not know the GPUs; the second does, and then the start waits no more."""
    monkeypatch.setenv("PATH", str(tmp_path))
    made = Waiting(tmp_path)
    made.cdi.open()
    assert not made.cdi.settled([BEFORE])
    made.finish(0.0)
    made.cdi.step([], 0.0, complete=False)
    assert not made.cdi.settled([BEFORE])
    made.cdi.step([BEFORE], 0.0, complete=True)
    assert not made.cdi.settled([BEFORE])
    made.finish(0.0)
    assert made.cdi.settled([BEFORE])


def test_nothing_is_due_before_the_first_inventory(waiting: Waiting) -> None:
    """Before the first inventory is in effect, no retry is due that nobody would start."""
    assert waiting.cdi.deadline() == math.inf
    waiting.cdi.step([BEFORE], 99.0, complete=True)
    assert waiting.cdi.settled([BEFORE])
    waiting.cdi.begin(0.0)
    assert waiting.cdi.deadline() == 1.0


def test_tries_become_rarer_until_the_devices_change(waiting: Waiting) -> None:
    """While names are missing, tries become rarer; after a change of devices they begin anew."""
    waiting.cdi.begin(0.0)
    now = 0.0
    for wait in (1.0, 2.0, 4.0):
        now += wait
        waiting.cdi.step([BEFORE], now, complete=True)
        assert waiting.cdi.deadline() == math.inf  # the job is under way
        waiting.finish(now)
    waiting.cdi.step([AFTER], now, complete=True)
    waiting.finish(now)
    assert waiting.cdi.deadline() == now + 1.0


def test_no_inventory_waits_for_a_retry(waiting: Waiting) -> None:
    """While a retry runs, an inventory with the same devices is used, and one with others is not:
    a new MIG instance may have the index of an old one, whose name is still in the file.
    """
    waiting.cdi.begin(0.0)
    waiting.cdi.step([BEFORE], 1.0, complete=True)
    assert waiting.cdi.settled([BEFORE])
    assert not waiting.cdi.settled([AFTER])
    waiting.finish(1.0)


def test_each_device_without_a_name_has_its_reason(waiting: Waiting) -> None:
    """The reason of a device without a name is why nvidia-ctk did not write it."""
    found = waiting.cdi.reasons([BEFORE, gpu(1)])
    devices = {BEFORE.instances[0].uuid, gpu(1).uuid}
    assert {u: str(why) for u, why in found.items()} == dict.fromkeys(
        devices, "cdi-spec nvidia-ctk is not installed"
    )


def test_an_imex_channel_that_comes_later_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a channel has appeared, only the file of the channels is written again."""
    dev = tmp_path / "dev/nvidia-caps-imex-channels"
    dev.mkdir(parents=True)
    (dev / "channel0").touch()
    written: list[list[str]] = []

    def write_all(settings: CdiSettings, task: cdi.Task, runs: object) -> tuple[cdi.Outcome, ...]:
        del settings, runs
        written.append([spec.mode for spec in task.specs])
        for spec in task.specs:
            names = [node.name.removeprefix("channel") for node in dev.iterdir()]
            devices = [{"name": name, "containerEdits": {}} for name in names]
            spec.path.write_text(json.dumps({"kind": spec.kind, "devices": devices}))
        return tuple(cdi.Outcome(spec) for spec in task.specs)

    monkeypatch.setattr(cdi, "write_all", write_all)
    made = Waiting(tmp_path, modes=("imex",), imex_channels=(0, 3))
    made.cdi.open(channels=(0,))
    made.finish(0.0)
    made.cdi.step([], 0.0, complete=True, channels=(0,))
    made.cdi.begin(0.0)
    assert list(made.cdi.channels) == ["0"]
    made.cdi.step([], 5.0, complete=True, channels=(0,))
    assert made.cdi.deadline() == 10.0  # the look has found nothing new
    (dev / "channel3").touch()
    made.cdi.step([], 10.0, complete=True, channels=(0, 3))
    assert made.cdi.settled([])  # devices do not wait for it
    made.finish(10.0)
    assert list(made.cdi.channels) == ["0", "3"]
    assert written == [["nvml", "imex"], ["imex"]]
