"""The file of the live node: the simulated NVML reads it, drills replace it atomically."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from proto.folder import Folder
from simulator import kernel_files, platform_files, usage
from simulator.faults import answering, asking, with_value
from simulator.node import (
    APPLICATIONS,
    PROFILE,
    REBOOT,
    REBOOTS,
    RESET,
    Live,
    NodeError,
    SimulatedGpu,
    SimulatedNode,
    SimulatedPlatform,
    nvlinks,
)
from simulator.usage import Use
from simulator.usage_change import using

LIVE_FILE = "simulated-node.json"

LONGEST = 3_600_000
"""The slowest call in milliseconds; a call that takes longer hangs."""

IN_PROGRESS = 2
"""NVML_GPU_FABRIC_STATE_IN_PROGRESS."""

HIGHEST, UNKNOWN = 30, 999
"""The highest error code of NVML but one, and NVML_ERROR_UNKNOWN, which is the highest."""


class LiveNode:
    """Reads and changes the live node."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LIVE_FILE
        self.sysfs = folder / "sysfs"
        self.procfs = folder / "procfs"
        self.logs = folder / "logs"
        self.root = folder / "root"
        """Stands for the root of the host: files of the driver, and dev/."""

    def start(self, node: SimulatedNode) -> None:
        """Create the live node; an existing one with the same node file keeps its faults."""
        self._change(lambda live: live if live and live.node == node else Live(node))

    def read(self) -> Live:
        """Return the present state of the node; NodeError if there is no node."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Live)
        except OSError as error:
            raise NodeError(
                f'cannot find a simulated node in "{self.path.parent}": '
                "set --runtime-dir to the folder that `simulate` shows"
            ) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NodeError(
                f'cannot read the simulated node in "{self.path}": '
                "delete the file, or use another folder"
            ) from error

    def xid(self, place: int, code: int, mig: int | None = None) -> None:
        """Report an Xid on a GPU, or on its MIG instance with index *mig*."""

        def happen(live: Live, gpu: SimulatedGpu) -> Live:
            if mig is not None and not 0 <= mig < len(gpu.mig or ()):
                has = f"it has {len(gpu.mig or ())} instances"
                raise NodeError(f"cannot find MIG instance {mig} on GPU {place}: {has}")
            if not gpu.reports_xids or live.node.platform is SimulatedPlatform.WSL:
                raise NodeError(
                    f"cannot report an Xid on GPU {place}: its driver reports none; "
                    "use another drill, such as hang"
                )
            action = REBOOT if code in REBOOTS else RESET
            after = live if code in APPLICATIONS else asking(live, gpu, action)
            return after.then(gpu, code, mig)

        self._change_gpu(place, happen)

    def lose(self, place: int) -> None:
        """Make a GPU fall off the bus."""
        self._change_gpu(place, lambda v, g: replace(asking(v, g, REBOOT), lost=v.lost | {g.uuid}))

    def hang(self, place: int) -> None:
        """Make every call on a GPU hang."""
        self._change_gpu(place, lambda v, g: replace(v, hung=v.hung | {g.uuid}))

    def slow_down(self, place: int, milliseconds: int) -> None:
        """Make each call on a GPU take so much longer; 0: no longer."""
        if not 0 <= milliseconds <= LONGEST:
            raise NodeError(
                f"cannot make calls take {milliseconds} ms longer: "
                f"write a number from 0 to {LONGEST}"
            )
        self._change_gpu(place, lambda v, g: replace(v, slow=with_value(v.slow, g, milliseconds)))

    def fail(self, place: int, call: str, code: int) -> None:
        """Make the NVML function *call* fail on a GPU with this error code; 0: no longer."""
        if code != UNKNOWN and not 0 <= code <= HIGHEST:
            raise NodeError(
                f"cannot make {call} fail with code {code}: NVML's errors are 1 to {HIGHEST} and "
                f"{UNKNOWN}; 0 ends the failure"
            )

        def change(live: Live, gpu: SimulatedGpu) -> Live:
            calls = {**live.failing.get(gpu.uuid, {}), call: code}
            calls = {name: error for name, error in calls.items() if error}
            return replace(live, failing=with_value(live.failing, gpu, calls))

        self._change_gpu(place, change)

    def take_links_down(self, place: int, links: int) -> None:
        """Take so many of a GPU's NVLinks down until a reset; 0: they are up again."""

        def change(live: Live, gpu: SimulatedGpu) -> Live:
            has = len(nvlinks(live.node.peers()[gpu.uuid]))
            if not 0 <= links <= has:
                raise NodeError(f"cannot take {links} NVLinks of GPU {place} down: it has {has}")
            return replace(live, links_down=with_value(live.links_down, gpu, links))

        self._change_gpu(place, change)

    def use(self, place: int, use: Use) -> None:
        """Let a process use a GPU or one of its MIG instances; with 0 MiB, no longer."""
        self._change_gpu(place, lambda live, gpu: using(live, gpu, place, use))

    def set_mode(self, uuid: str, mode: int) -> None:
        """Give a GPU a compute mode, as NVML's number."""

        def change(live: Live | None) -> Live:
            there = _there(live)
            gpu = next(gpu for gpu in there.gpus if gpu.uuid == uuid)
            return replace(there, modes=with_value(there.modes, gpu, mode))

        self._change(change)

    def recover(self, place: int) -> None:
        """End what is wrong with a GPU without a reset; its recovery action stays."""
        self._change_gpu(place, answering)

    def ask_for(self, place: int, action: int) -> None:
        """Make the driver ask for a recovery action, given as NVML's number."""
        self._change_gpu(place, lambda v, g: asking(v, g, action))

    def fail_row(self, place: int) -> None:
        """Make the remapping of a memory row fail, until a reset."""
        self._change_gpu(place, lambda v, g: replace(v, rows=v.rows | {g.uuid}))

    def fail_grey(self, place: int, failure: str) -> None:
        """Give a GPU one more grey failure."""

        def change(live: Live, gpu: SimulatedGpu) -> Live:
            failures = {*live.grey.get(gpu.uuid, ()), failure}
            return replace(live, grey=with_value(live.grey, gpu, tuple(sorted(failures))))

        self._change_gpu(place, change)

    def fail_mps(self, place: int) -> None:
        """Put the MPS server of a GPU in FAULT."""
        self._change_gpu(place, lambda v, g: replace(v, mps_faults=v.mps_faults | {g.uuid}))

    def fail_memory(self, place: int) -> None:
        """Report an uncorrectable memory error."""

        def happen(live: Live, gpu: SimulatedGpu) -> Live:
            errors = {**live.errors, gpu.uuid: live.errors.get(gpu.uuid, 0) + 1}
            return replace(asking(live, gpu, RESET), errors=errors)

        self._change_gpu(place, happen)

    def reset(self, place: int) -> None:
        """Reset a GPU: it answers, has no fault, and needs no recovery action."""

        def start_anew(live: Live, gpu: SimulatedGpu) -> Live:
            return replace(
                answering(live, gpu),
                rows=live.rows - {gpu.uuid},
                actions=with_value(live.actions, gpu, 0),
                errors=with_value(live.errors, gpu, 0),
                links_down=with_value(live.links_down, gpu, 0),
                resets={**live.resets, gpu.uuid: live.resets.get(gpu.uuid, 0) + 1},
            )

        self._change_gpu(place, start_anew)

    def remove(self, place: int) -> None:
        """Remove a GPU from the node."""
        self._change_gpu(place, lambda v, g: replace(v, removed=v.removed | {g.uuid}))

    def add(self, place: int) -> None:
        """Put a GPU back that was removed or given to virtual machines."""

        def back(live: Live, gpu: SimulatedGpu) -> Live:
            return replace(live, removed=live.removed - {gpu.uuid}, passed=live.passed - {gpu.uuid})

        self._change_gpu(place, back)

    def give_away(self, place: int) -> None:
        """Give a GPU to vfio-pci, for virtual machines."""
        self._change_gpu(place, lambda v, g: replace(v, passed=v.passed | {g.uuid}))

    def take_apart(self, place: int) -> None:
        """Let a GPU not have joined its NVLink fabric, until it recovers."""
        self._change_gpu(place, lambda v, g: replace(v, apart=with_value(v.apart, g, IN_PROGRESS)))

    def end_licence(self, place: int) -> None:
        """Take the licence of a virtual GPU away, until it recovers."""

        def change(live: Live, gpu: SimulatedGpu) -> Live:
            if gpu.vgpu is None:
                raise NodeError(f"cannot take the licence of GPU {place}: it is no virtual GPU")
            return replace(live, unlicensed=live.unlicensed | {gpu.uuid})

        self._change_gpu(place, change)

    def attest(self, *, attested: bool) -> None:
        """Let the GPUs of a confidential virtual machine accept work, or not."""
        self.read()  # raises a clear error if there is no node
        self._change(lambda live: replace(_there(live), unattested=not attested))

    def partition(self, place: int, profiles: tuple[str, ...]) -> None:
        """Replace all instances of a GPU in MIG mode by instances of *profiles*."""
        for profile in profiles:
            if not PROFILE.fullmatch(profile):
                raise NodeError(
                    f'cannot create MIG instance "{profile}": write a profile such as 1g.10gb'
                )

        def change(live: Live, gpu: SimulatedGpu) -> Live:
            if gpu.mig is None:
                raise NodeError(f"cannot create MIG instances on GPU {place}: MIG mode is off")
            return replace(live, layouts={**live.layouts, gpu.uuid: profiles}).then(gpu)

        self._change_gpu(place, change)

    def deny(self, *, denied: bool) -> None:
        """Take the service's access to the device nodes away, or give it back."""
        self.read()  # raises a clear error if there is no node
        self._change(lambda live: replace(_there(live), denied=denied))

    def _change_gpu(self, place: int, change: Callable[[Live, SimulatedGpu], Live]) -> None:
        def apply(live: Live | None) -> Live:
            gpus = live.gpus if live else ()
            if live is None or not 0 <= place < len(gpus):
                raise NodeError(f"cannot find GPU {place}: the simulated node has {len(gpus)} GPUs")
            return change(live, gpus[place])

        self.read()  # raises a clear error if there is no node
        self._change(apply)

    def _change(self, change: Callable[[Live | None], Live]) -> None:
        """Replace the live node atomically; NodeError if that fails."""
        try:
            self._replace(change)
        except OSError as error:
            raise NodeError(
                f'cannot write the simulated node in "{self.path.parent}": '
                f"{error.strerror or error}"
            ) from error

    def _replace(self, change: Callable[[Live | None], Live]) -> None:
        Folder.existing(self.path.parent).close()  # refuses a folder that others can change
        # A lock makes changes wait for each other.
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read() if self.path.exists() else None
            after = change(before)
            if after is before:
                return  # so that a reload also works on a full disk
            # First the sysfs and procfs files, so that a reader of the new node finds them.
            kernel_files.show(after, self.sysfs, self.procfs)
            if before is None or before.node != after.node:
                platform_files.show(after.node.platform, self.root, self.sysfs)
            usage.show(self.procfs, self.logs, after.uses)
            new = self.path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(after))
            # The kernel's timestamps are coarse: two changes in a row could get the same one.
            os.utime(new, ns=(time.time_ns(),) * 2)
            new.replace(self.path)


def _there(live: Live | None) -> Live:
    if live is None:
        raise NodeError("cannot find the simulated node: its file was deleted during this command")
    return live
