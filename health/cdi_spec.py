"""What belongs into CDI specifications, and which devices they lack, as pure functions.

Flags and behaviour are those of nvidia-ctk 1.18 to 1.20. It appends .json or .yaml to an output
file without such an ending, and container runtimes read every file with one. So it works in a
subfolder beside the specifications, which runtimes ignore.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from proto.messages import Gpu, MigInstance
from proto.monitor import CdiSettings
from proto.names import handed_out, index_of
from proto.reasons import Reason, ReasonKind
from proto.worker import DeviceIdStrategy

TOOL = "nvidia-ctk"
GPUS = "nvml"
"""The mode of nvidia-ctk for GPUs and MIG instances."""

CSV = "csv"
"""Its mode on Tegra."""

CSV_FOLDER = "etc/nvidia-container-runtime/host-files-for-container.d"
"""Where the files for the mode csv are, below the driver root."""

IMEX = "imex"
"""Its mode for IMEX channels."""

CLASSES = {IMEX: "imex-channel"}
"""The CDI class of a mode, where the class and the mode have different names."""

DETAIL_LIMIT = 200
"""Characters of a reason's detail; the end of a longer text says more than its beginning."""

UNNAMED = f"{TOOL} did not name the device"

FIRST_DELAY = 1.0
LAST_DELAY = 60.0
"""Seconds until the next try after the first and after many failures."""

Document = dict[str, Any]
"""A CDI specification as read from JSON."""


class CdiError(Exception):
    """A specification cannot be generated; *why* is the tool's own last line, if it wrote one."""

    def __init__(self, text: str, why: str = "") -> None:
        super().__init__(text)
        self.why = why or text


class CdiSpec(msgspec.Struct, frozen=True):
    """A specification to write."""

    mode: str
    kind: str
    path: Path


class DriverRoots(msgspec.Struct, frozen=True):
    """Paths of the driver root and the root of its /dev, as this process sees them."""

    driver: str
    dev: str


class Device(msgspec.Struct, frozen=True):
    """A device that containers get by its name."""

    uuid: str
    name: str
    instance: MigInstance | None = None
    """None: a whole GPU."""


class Wanted(msgspec.Struct, frozen=True):
    """A GPU, and its devices that need a name: the GPU itself, or its MIG instances."""

    gpu: str
    """UUID of the physical GPU."""
    devices: tuple[Device, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of its devices."""
        return frozenset(device.name for device in self.devices)


def specs(settings: CdiSettings) -> tuple[CdiSpec, ...]:
    """Return the specifications to write, starting with that of the GPUs."""
    classes = [(GPUS, settings.device_class)]
    classes += [(mode, CLASSES.get(mode, mode)) for mode in settings.modes]
    folder, vendor = Path(settings.spec_folder), settings.vendor
    return tuple(
        CdiSpec(mode, f"{vendor}/{name}", folder / f"{vendor}-{name}.json")
        for mode, name in classes
    )


def in_mode(settings: CdiSettings, spec: CdiSpec, mode: str) -> tuple[CdiSettings, CdiSpec]:
    """Return how nvidia-ctk writes *spec*, if it finds GPUs in *mode*: nvml, csv or wsl."""
    if spec.mode != GPUS:
        return settings, spec
    if mode == CSV:  # it knows an index of the GPU, but no UUID
        settings = msgspec.structs.replace(settings, device_names=DeviceIdStrategy.INDEX)
    return settings, replace(spec, mode=mode)


def generation(
    tool: str, settings: CdiSettings, spec: CdiSpec, here: DriverRoots, to: Path
) -> list[str]:
    """Return the nvidia-ctk command that writes *spec* to the file *to*."""
    vendor, _, name = spec.kind.partition("/")
    return [
        *(tool, "cdi", "generate"),
        f"--mode={spec.mode}",
        f"--vendor={vendor}",
        f"--class={name}",
        f"--device-name-strategy={settings.device_names}",
        f"--driver-root={here.driver}",
        f"--dev-root={here.dev}",
        f"--nvidia-cdi-hook-path={settings.hook_path}",
        *(f"--feature-flag={flag}" for flag in settings.feature_flags),
        *(f"--disable-hook={hook}" for hook in settings.disabled_hooks),
        "--format=json",
        f"--output={to}",
    ]


def only(gpu: Wanted) -> list[str]:
    """Return the flags for a specification of one GPU's devices; nvidia-ctk has them since 1.19.

    By UUID, whatever the devices are called: NVML's indices differ where a GPU is lost.
    """
    return [f"--device-id={device.uuid}" for device in gpu.devices]


def rewriting(tool: str, source: str, target: str, file: Path) -> list[str]:
    """Return the nvidia-ctk command that moves host paths from root *source* to *target*."""
    return [
        *(tool, "cdi", "transform", "root", "--relative-to=host"),
        *(f"--from={source}", f"--to={target}", f"--input={file}", f"--output={file}"),
    ]


def rewrites(settings: CdiSettings, here: DriverRoots) -> tuple[tuple[str, str], ...]:
    """Return the pairs (root in this process, root on the host) to replace in a specification."""
    driver = (posixpath.normpath(here.driver), posixpath.normpath(settings.driver_root))
    pairs = [driver]
    if (here.dev, settings.dev_root) != (here.driver, settings.driver_root):
        # First: the rule of the driver root would also match device nodes below that root.
        pairs.insert(0, (_dev(here.dev), _dev(settings.dev_root)))
    return tuple((source, target) for source, target in pairs if source not in ("/", target))


def _dev(root: str) -> str:
    return posixpath.normpath(f"{root.rstrip('/').removesuffix('/dev')}/dev")


def check(content: bytes, kind: str) -> Document:
    """Return the CDI specification in *content*; raise CdiError unless it is one of *kind*."""
    if not content:
        raise CdiError(f"cannot use the output of {TOOL}: the file is empty")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CdiError(f"cannot use the output of {TOOL}: it is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise CdiError(f"cannot use the output of {TOOL}: its kind is not {kind}")
    return found


def reason(output: bytes) -> str:
    """Return the last line of the output of nvidia-ctk, or the message if it is a log line."""
    lines = output.decode(errors="replace").strip().splitlines() or ["no output"]
    message = re.search(r'\bmsg="(.*)"$', lines[-1])
    return message[1].replace('\\"', '"') if message else lines[-1].strip()


def read(content: bytes, kind: str) -> Document:
    """Return the specification in *content*; an empty one if it is not one of *kind*."""
    try:
        return check(content, kind)
    except CdiError:
        return {}


def devices(document: Document) -> list[Document]:
    """Return the devices of a specification that have a name."""
    found = document.get("devices")
    listed = found if isinstance(found, list) else []
    return [d for d in listed if isinstance(d, dict) and isinstance(d.get("name"), str)]


def wanted(gpus: Iterable[Gpu], strategy: str, *, whole: bool) -> tuple[Wanted, ...]:
    """Return the names that the devices of *gpus* need.

    *whole*: GPUs in MIG mode are handed out whole.
    """
    return tuple(_wanted(gpu, strategy, whole=whole) for gpu in gpus)


def _wanted(gpu: Gpu, strategy: str, *, whole: bool) -> Wanted:
    if whole or not gpu.mig_enabled:
        name = gpu.toolkit_id or handed_out(gpu.uuid, index_of(gpu), strategy)
        return Wanted(gpu.uuid, (Device(gpu.uuid, name),))
    if gpu.toolkit_id:
        return Wanted(gpu.uuid, ())  # the tool knows no instances there
    instances = (
        Device(i.uuid, handed_out(i.uuid, index_of(gpu, i), strategy), i) for i in gpu.instances
    )
    return Wanted(gpu.uuid, tuple(instances))


def lacks(gpus: Iterable[Wanted], names: frozenset[str]) -> bool:
    """Return whether *names* lack the name of any device."""
    return any(not gpu.names <= names for gpu in gpus)


def unnamed(
    gpus: Iterable[Wanted], names: frozenset[str], error: str, errors: Mapping[str, str]
) -> dict[str, Reason]:
    """Return why devices whose name is not among *names* are Unhealthy, by UUID.

    *error* is why the specification could not be written, *errors* are those of single GPUs.
    """
    return {
        device.uuid: Reason(ReasonKind.CDI_SPEC, shortened(errors.get(gpu.gpu) or error or UNNAMED))
        for gpu in gpus
        for device in gpu.devices
        if device.name not in names
    }


def shortened(text: str) -> str:
    """Return *text*, or its end if it is too long for a reason."""
    return text if len(text) <= DETAIL_LIMIT else f"...{text[3 - DETAIL_LIMIT :]}"


def outdated(before: Iterable[Wanted], now: Iterable[Wanted]) -> frozenset[str]:
    """Return the names of devices that are gone; another device may get such a name."""
    there = {device for gpu in now for device in gpu.devices}
    return frozenset(d.name for gpu in before for d in gpu.devices if d not in there)


def delay(failures: int) -> float:
    """Return the seconds to the next try after this many *failures* in a row, 1 or more."""
    return min(FIRST_DELAY * 2.0 ** min(failures - 1, 30), LAST_DELAY)


def merged(documents: Sequence[Document], kept: Iterable[Document] = ()) -> Document:
    """Return one specification with the devices of all *documents*, and the *kept* devices.

    Without the device `all` of each document: together they would be a name with two meanings.
    """
    named = [device for document in documents for device in devices(document)]
    unique = {device["name"]: device for device in (*kept, *named) if device["name"] != "all"}
    edits: Document = {}
    for document in documents:
        common = document.get("containerEdits")
        for key, value in common.items() if isinstance(common, dict) else ():
            edits[key] = _united(edits.get(key), value)
    version = max((str(d.get("cdiVersion", "")) for d in documents), key=_version)
    return {
        **documents[0],
        "cdiVersion": version,
        "devices": list(unique.values()),
        "containerEdits": edits,
    }


def _united(known: object, more: object) -> object:
    if isinstance(known, list) and isinstance(more, list):
        return [*known, *(entry for entry in more if entry not in known)]
    return more if known is None else known


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
