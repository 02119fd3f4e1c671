"""The prober: which GPU is tested next, what a result means, and what limits the command."""

import os
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from health.grey_watch import GreyWatch
from proto.grey import GreySettings
from proto.messages import DeviceHealth, Gpu, NodeState
from proto.probe import Probed, ProbeSettings
from proto.reasons import Reason, ReasonKind
from proto.running import Result
from supervisor.compose import compose
from supervisor.config.refusal import SettingsError
from supervisor.config.settings import load
from supervisor.exporter import held_reports
from supervisor.prober import decide, limits
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, node_state

FAILED, HOT = Reason(ReasonKind.PROBE, "exit code 1"), Reason(ReasonKind.THERMAL)


def node(*gpus: Gpu, **reasons: Reason) -> NodeState:
    """Return the state of a node with these GPUs; *reasons* are by index, such as g0."""
    health = tuple(
        DeviceHealth(known.uuid, (reasons[f"g{known.index}"],))
        if f"g{known.index}" in reasons
        else DeviceHealth(known.uuid)
        for known in gpus
    )
    return replace(node_state({}), inventory=inventory(*gpus), health=health)


NODE = node(gpu(0), gpu(1), gpu(2))
NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("state", "held", "free"),
    [
        (NODE, NOBODY, True),
        (NODE, None, False),  # the kubelet does not answer
        (NODE, {gpu_uuid(0)}, False),
        (NODE, {gpu_uuid(1)}, True),
        (node(gpu(0), g0=HOT), NOBODY, False),
        (node(gpu(0), g0=FAILED), NOBODY, True),  # it may pass again
        (node(gpu(1)), NOBODY, False),
        (node(replace(mig_gpu(1, "1g.10gb"), uuid=gpu_uuid(0))), NOBODY, False),
    ],
)
def test_which_gpu_is_free(state: NodeState, held: frozenset[str] | None, *, free: bool) -> None:
    """Only a GPU that no container holds, and that has no other fault, is probed."""
    assert decide.is_free(state, gpu_uuid(0), held) is free


def test_an_old_list_is_none() -> None:
    """While the exporter is silent, nobody knows which GPUs containers hold: none is probed."""
    held = frozenset({"A"})
    assert decide.listed(held, 100.0, 100.0 + decide.OLD) == held
    assert decide.listed(held, 100.0, 100.1 + decide.OLD) is None
    assert decide.listed(None, 100.0, 100.0) is None
    assert decide.OLD > 2 * held_reports.EVERY


def test_which_gpu_is_next() -> None:
    """Each GPU is probed once in the interval, the one that has waited longest first."""

    def turn(held: frozenset[str], probed: dict[str, float], now: float) -> int | None:
        found = decide.next_gpu(NODE, held, probed, now, 100.0)
        return found.index if found else None

    assert turn(NOBODY, {}, 5.0) == 0
    assert turn(NOBODY, {gpu_uuid(0): 5.0}, 6.0) == 1
    everyone = {gpu_uuid(0): 5.0, gpu_uuid(1): 3.0, gpu_uuid(2): 4.0}
    assert turn(NOBODY, everyone, 102.9) is None
    assert turn(NOBODY, everyone, 200.0) == 1
    assert turn(frozenset({gpu_uuid(1)}), everyone, 200.0) == 2


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (Result(0, "all well\n"), ""),
        (Result(3, ""), "exit code 3"),
        (Result(3, "first\nbad memory at 7\n\n"), "exit code 3: bad memory at 7"),
        (Result(-11, ""), "killed by signal 11"),
        (Result(None, "testing\n"), "no result within 60 s"),
    ],
)
def test_what_a_result_means(result: Result, why: str) -> None:
    """Exit code 0 is a pass; anything else, also no result in time, is a failure."""
    assert decide.failure(result, 60.0) == why


def test_what_is_reported() -> None:
    """A report is the complete state: a failure stays until a later probe of the GPU passes."""
    failed = decide.after(decide.after(Probed({}), "A", "x"), "B", "y")
    assert failed == Probed({"A": "x", "B": "y"})
    assert decide.after(failed, "A", "") == Probed({"B": "y"})
    assert len(decide.failure(Result(1, "x" * 5000), 1.0)) <= decide.LONGEST


def test_a_new_prober_takes_over_what_was_told() -> None:
    """Else its first pass of such a GPU would be no news, and the GPU Unhealthy for good."""
    earlier = Probed({"A": "x"})
    told = decide.taken_over(Probed({}), earlier, {})
    assert decide.after(told, "A", "") != told
    assert decide.taken_over(Probed({}), earlier, {"A": 5.0}) == Probed({})


def test_what_an_operator_marked_is_told_no_more() -> None:
    """Else the next failure of another GPU, or a new monitor, would bring it back."""
    both = Probed({gpu_uuid(0): "x", gpu_uuid(1): "y"})
    ill, marked = node(gpu(0), gpu(1), g0=FAILED, g1=FAILED), node(gpu(0), gpu(1), g1=FAILED)
    shown = decide.shown(ill, both)
    assert shown == decide.Shown(ill.epoch, frozenset(both.failed))
    assert decide.after_marks(both, shown, ill) == both
    assert decide.after_marks(both, shown, marked) == Probed({gpu_uuid(1): "y"})
    # The monitor has not heard of the failure yet, a new one neither, or the GPU is missing.
    assert decide.after_marks(both, decide.shown(marked, both), marked) == both
    assert decide.after_marks(both, shown, replace(marked, epoch=ill.epoch + 1)) == both
    assert decide.after_marks(both, shown, node(gpu(1), g1=FAILED)) == both


def test_what_the_monitor_makes_of_it() -> None:
    """A failed probe makes GPU and instances Unhealthy until a pass, or an operator's mark."""
    watch, known = GreyWatch(GreySettings()), mig_gpu(1, "1g.10gb")
    nodes = inventory(gpu(0), known)
    watch.probed({known.uuid: "exit code 1", "GPU-gone": "x"})
    assert watch.unhealthy(nodes) == dict.fromkeys((known.uuid, known.instances[0].uuid), (FAILED,))
    assert watch.failures(nodes) == ()
    watch.forget([known.uuid])
    assert watch.unhealthy(nodes) == {}
    watch.probed({known.uuid: "exit code 1"})
    watch.probed({})
    assert watch.unhealthy(nodes) == {}


def test_the_variables_name_the_gpu() -> None:
    """The command sees its GPU only, and is told which one it is."""
    found = decide.environment(gpu(2))
    assert found["CUDA_VISIBLE_DEVICES"] == found["GPU_UUID"] == gpu_uuid(2)
    assert (found["GPU_INDEX"], found["GPU_PCI_BUS_ID"]) == ("2", "0000:03:00.0")


def test_a_cgroup_that_can_be_written(tmp_path: Path) -> None:
    """The command gets a cgroup of its own with the limits whose controllers there are."""
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe/cpu.max").write_text("max 100000")
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        try:
            assert limits.apply(sleeper.pid, tmp_path) == ""
            nice = os.getpriority(os.PRIO_PROCESS, sleeper.pid)
        finally:
            sleeper.kill()
    assert nice >= limits.NICE
    assert (tmp_path / "probe/cpu.max").read_text() == limits.LIMITS["cpu.max"]
    assert (tmp_path / "probe/cgroup.procs").read_text() == str(sleeper.pid)


def test_a_cgroup_that_cannot_be_written(tmp_path: Path) -> None:
    """Where there is no such hierarchy, the command runs all the same."""
    (tmp_path / "file").write_text("")
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        try:
            assert limits.apply(sleeper.pid, tmp_path / "file") == "Not a directory"
        finally:
            sleeper.kill()


def service(tmp_path: Path, text: str) -> tuple[object, ...]:
    """Return the processes of the service with this configuration of `health`."""
    file = tmp_path / "config.yaml"
    file.write_text(f"version: v1\nhealth: {text}")
    return compose(load({"service.configFile": str(file)}, {})).children


def test_the_settings_of_the_prober(tmp_path: Path) -> None:
    """With a command there is a prober, and monitor and prober take its reports; else neither."""
    plain = compose(load({}, {})).children
    assert "prober" not in [spec.name for spec in plain]
    assert Probed not in plain[0].takes
    children = service(tmp_path, "{probe: /opt/check --mode 'a b', probeTimeout: 5m}")
    (prober,) = [spec for spec in children if getattr(spec, "name", "") == "prober"]
    mine = getattr(prober, "settings", None)
    assert isinstance(mine, ProbeSettings)
    assert mine.command == ("/opt/check", "--mode", "a b")
    assert (mine.interval, mine.timeout) == (3600.0, 300.0)
    # The prober too: a new one has to know what the one before it has told.
    assert all(Probed in getattr(spec, "takes", ()) for spec in (children[0], prober))


@pytest.mark.parametrize(
    ("command", "why"), [("check", "write the absolute path"), ("/opt/check 'a", "No closing quot")]
)
def test_a_command_that_is_none(tmp_path: Path, command: str, why: str) -> None:
    """A command without an absolute path, or with an open quotation, is refused."""
    with pytest.raises(SettingsError, match=why):
        service(tmp_path, f'{{probe: "{command}"}}')
