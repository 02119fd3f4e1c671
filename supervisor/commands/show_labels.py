"""The command `labels`: look at the node once, and print the labels that it has."""

import os
import select
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from proto.channel import ClosedError
from proto.control import ExitCode, Inventoried, NotReady
from proto.labels import PRODUCT_NAME
from proto.messages import Inventory
from proto.monitor import MonitorSettings
from simulator.live_node import LiveNode
from simulator.node import NodeError, SimulatedNode
from supervisor import privileges
from supervisor.child import Process, Spec
from supervisor.commands.printing import complain, say
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.machine_type import machine_type
from supervisor.labels.node_labels import labels
from supervisor.maintenance import MONITOR
from supervisor.state import Service

MARGIN = 5.0
"""Seconds that the process may need beside its driver calls."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

ENDS_WITHIN = 1.0
"""Seconds for the process to end after its report."""


def main(service: Service, node: SimulatedNode | None, machine_file: str | None) -> int:
    """Print the labels of the node under the settings of *service*; return the exit code.

    *node*: the simulated node in place of this machine. *machine_file*: the file with the kind of
    machine; None: the kernel's. A driver that hangs holds up another
    process only, which is then left behind.
    """
    monitor = next(spec.settings for spec in service.children if spec.name == MONITOR)
    assert isinstance(monitor, MonitorSettings)  # noqa: S101 - compose made it
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-sharing-labels-") as folder:
            settings = monitor if node is None else _simulated(monitor, node, Path(folder))
            process = service.fork(_spec(settings), 1)
            report = _report(process, 2 * settings.hang_after + MARGIN)
            machine = machine_type(
                f"{settings.sysfs}/{PRODUCT_NAME}" if machine_file is None else machine_file
            )
            ended = _ends(process)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
    code = _print(service, report, machine)
    if not ended:
        # Not return: the interpreter would wait for a process that the kernel cannot kill.
        os._exit(code)
    return code


def _spec(settings: MonitorSettings) -> Spec:
    return Spec("labels", "health.look_once", settings, keeps=privileges.DRIVER)


def _simulated(settings: MonitorSettings, node: SimulatedNode, folder: Path) -> MonitorSettings:
    """Return the settings for the live node of the running service, or else for a new one."""
    try:
        if LiveNode(Path(settings.binding_argument)).read().node == node:
            return settings
    except NodeError:
        pass  # no service runs it
    live = LiveNode(folder)
    live.start(node)
    return replace(
        settings,
        binding_argument=str(folder),
        driver_root=str(live.root),
        dev_roots=(str(live.root),),
        sysfs=str(live.sysfs),
        procfs=str(live.procfs),
    )


def _report(process: Process, seconds: float) -> Inventoried | NotReady:
    """Return what the *process* finds; without a report in time, why there is none."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        select.select([process.channel], [], [], left)
        try:
            report = process.channel.receive()
        except ClosedError:
            return NotReady("the process that looks at the GPUs ended; see the log above")
        if isinstance(report, Inventoried | NotReady):
            return report
    return NotReady(f"the driver has not answered for {seconds:g} s")


def _ends(process: Process) -> bool:
    """Return whether the *process* has ended and is reaped; kill it if it does not end itself."""
    for _ in range(2):
        if select.select([process.sentinel], [], [], ENDS_WITHIN)[0]:
            process.reap()
            return True
        process.kill()
    return False


def _print(service: Service, report: Inventoried | NotReady, machine: str) -> int:
    if isinstance(report, NotReady):
        complain(f"cannot label the node: {report.reason}")
        return ExitCode.FAILED
    _say(service, report.inventory, machine)
    return ExitCode.DONE


def _say(service: Service, inventory: Inventory, machine: str) -> None:
    plan = service.plan(inventory)
    for failed in inventory.failed:
        complain(f"cannot label GPU {failed.index}: {failed.error}")
    for problem in plan.problems:
        complain(problem.text)
    found = labels(inventory, service.advertising(inventory, plan), MachineFacts(machine))
    say(*(f"{key}={value}" for key, value in found.items()))
