"""How sharing by MPS is read from the configuration file, and what is refused."""

from pathlib import Path

import pytest

from proto.keeper import ComputeMode
from supervisor.config.file_schema import Portion
from supervisor.config.settings import load
from supervisor.config.sharing import MpsLimits, Share
from tests.unit.refusal import message

GPU, FIRST = "nvidia.com/gpu", "sharing.mps.resources[0]"
SHARED = "nvidia.com/gpu.shared"
ONE = "mps: {resources: [{name: gpu, replicas: 2}]}"


def shares(folder: Path, mps: str, flags: dict[str, str] | None = None) -> dict[str, list[Share]]:
    """Return the shares of a file with this `sharing`, by resource."""
    path = folder / "config.yaml"
    path.write_text(f"sharing: {{{mps}}}")
    found = load({"service.configFile": str(path)} | (flags or {}), {}).shares
    return {name: list(mine) for name, mine in found.items()}


def refusal(folder: Path, content: str, flags: dict[str, str] | None = None) -> str:
    """Return the error for a file with *content*, without the file's name."""
    path = folder / "config.yaml"
    path.write_text(content)
    text = message({"service.configFile": str(path)} | (flags or {}), {})
    return text.replace(f' "{path}"', "").removeprefix("cannot use the configuration file: ")


READ = {
    "defaults": (ONE, Share(GPU, 2, None, MpsLimits())),
    "several replicas for a container": (
        "mps: {failRequestsGreaterThanOne: false, resources: [{name: gpu, replicas: 2}]}",
        Share(GPU, 2, None, MpsLimits(single=False)),
    ),
    "renamed": (
        "mps: {renameByDefault: true, resources: [{name: gpu, replicas: 60}]}",
        Share(SHARED, 60, None, MpsLimits()),
    ),
    "renamed at its entry, some devices": (
        "mps: {resources: [{name: gpu, replicas: 2, rename: some, devices: [0, 2]}]}",
        Share("nvidia.com/some", 2, ("0", "2"), MpsLimits()),
    ),
    "numbers": (
        "mps: {resources: [{name: gpu, replicas: 2, memoryLimit: 1500, threads: 25}]}",
        Share(GPU, 2, None, MpsLimits(1500, 25)),
    ),
    "no limits": (
        "mps: {resources: [{name: gpu, replicas: 2, memoryLimit: none, threads: none}]}",
        Share(GPU, 2, None, MpsLimits(Portion.NONE, Portion.NONE)),
    ),
    "shares, in words": (
        "mps: {resources: [{name: gpu, replicas: 2, memoryLimit: share, threads: share}]}",
        Share(GPU, 2, None, MpsLimits()),
    ),
    "one replica with limited memory": (
        "mps: {resources: [{name: gpu, replicas: 1, memoryLimit: 1}]}",
        Share(GPU, 1, None, MpsLimits(1)),
    ),
    "one replica with limited threads": (
        "mps: {resources: [{name: gpu, replicas: 1, memoryLimit: none, threads: 100}]}",
        Share(GPU, 1, None, MpsLimits(Portion.NONE, 100)),
    ),
    "MIG instances": (
        "mps: {onMig: true, resources: [{name: gpu, replicas: 2}]}",
        Share(GPU, 2, None, MpsLimits(on_mig=True)),
    ),
}


def test_the_compute_mode(tmp_path: Path) -> None:
    """It is EXCLUSIVE_PROCESS, unless the configuration wants it unchanged."""
    path = tmp_path / "config.yaml"
    found = []
    for more in ("", ", computeMode: unchanged", ", computeMode: exclusive"):
        path.write_text(f"sharing: {{{ONE[:-1]}{more}}}}}")
        mps = load({"service.configFile": str(path)}, {}).configuration.sharing.mps
        found.append(mps.compute_mode if mps else None)
    exclusive, unchanged = ComputeMode.EXCLUSIVE_PROCESS, ComputeMode.UNCHANGED
    assert found == [exclusive, unchanged, exclusive]


NUMBERS = "replicas: 2, memoryLimit"
REFUSED = {
    "nothing": ("mps: {}", "sharing.mps: it has no resources to share; leave it out"),
    "no entry": (
        "mps: {resources: []}",
        "sharing.mps.resources: the list is empty; leave the section out",
    ),
    "no replica": (
        "mps: {resources: [{name: gpu, replicas: 0}]}",
        f"{FIRST}.replicas: Expected `int` >= 1",
    ),
    "replicas by memory": (
        "mps: {resources: [{name: gpu, replicas: -1}]}",
        f"{FIRST}.replicas: Expected `int` >= 1",
    ),
    "one replica without a number": (
        "mps: {resources: [{name: gpu, replicas: 1, memoryLimit: share, threads: none}]}",
        (
            f"{FIRST}.replicas: one replica shares nothing; leave the entry out, or write a number "
            "as memoryLimit or threads"
        ),
    ),
    "a unit": (
        f"mps: {{resources: [{{name: gpu, {NUMBERS}: 4Gi}}]}}",
        f"{FIRST}.memoryLimit: Invalid enum value '4Gi'; allowed: share, none, a whole number",
    ),
    "no memory": (
        f"mps: {{resources: [{{name: gpu, {NUMBERS}: 0}}]}}",
        f"{FIRST}.memoryLimit: Expected `int` >= 1; allowed: share, none, a whole number",
    ),
    "more memory than there is": (
        f"mps: {{resources: [{{name: gpu, {NUMBERS}: 16777217}}]}}",
        f"{FIRST}.memoryLimit: 16777217 MiB is too much; write at most 16777216",
    ),
    "more than all threads": (
        "mps: {resources: [{name: gpu, replicas: 2, threads: 101}]}",
        f"{FIRST}.threads: 101 percent is too much; write at most 100",
    ),
    "a fraction of a percent": (
        "mps: {resources: [{name: gpu, replicas: 2, threads: 2.5}]}",
        f"{FIRST}.threads: Expected `int | str`, got `float`; allowed: share, none, a whole number",
    ),
    "one resource twice": (
        "mps: {resources: [{name: gpu, replicas: 2}, {name: gpu, replicas: 3}]}",
        (
            "sharing.mps.resources[1]: an earlier entry shares all devices of nvidia.com/gpu; "
            "remove one of the entries, or name the devices of each"
        ),
    ),
    "both kinds for one resource": (
        f"{ONE}, timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 2}}]}}",
        "sharing.mps: sharing.timeSlicing shares nvidia.com/gpu too; keep one of the entries",
    ),
    "both kinds under one name": (
        f"{ONE}, timeSlicing: {{resources: [{{name: mig-1g.10gb, rename: gpu, replicas: 2}}]}}",
        (
            "sharing.mps: resources that are shared without MPS are named nvidia.com/gpu too; "
            "write another rename"
        ),
    ),
    "another compute mode": (
        "mps: {computeMode: prohibited, resources: [{name: gpu, replicas: 2}]}",
        "sharing.mps.computeMode: Invalid enum value 'prohibited'; allowed: exclusive, unchanged",
    ),
    "limits of time-slicing": (
        "timeSlicing: {resources: [{name: gpu, replicas: 2, threads: 10}]}",
        (
            'sharing.timeSlicing.resources[0]: unknown key "threads"; '
            "allowed keys: name, replicas, rename, devices"
        ),
    ),
}
ROOTS = {
    "empty": ("", 'flags.mpsRoot "": write an absolute path for sharing.mps'),
    "the host's root": ("//", 'flags.mpsRoot "//": write a folder of its own for sharing.mps'),
    "relative": ("mps", 'flags.mpsRoot "mps": write an absolute path for sharing.mps'),
    "above itself": (
        "/run/mps/..",
        'flags.mpsRoot "/run/mps/..": write the path without ".." for sharing.mps',
    ),
    "too long": (
        "/" + "r" * 41,
        (
            f'flags.mpsRoot "/{"r" * 41}": it has 42 bytes, too many for the sockets of MPS below '
            "it; write at most 41"
        ),
    ),
}


@pytest.mark.parametrize("written", ["mps: null", "mps: ", "timeSlicing: null, mps: null"])
def test_without_a_value_nothing_is_shared(tmp_path: Path, written: str) -> None:
    """A key without a value is as if it were missing, as in NVIDIA's plugin."""
    assert shares(tmp_path, written) == {}


@pytest.mark.parametrize(("written", "expected"), READ.values(), ids=READ)
def test_what_is_read(tmp_path: Path, written: str, expected: Share) -> None:
    """Keys and defaults are NVIDIA's, and each resource may have limits of its own."""
    assert shares(tmp_path, written) == {GPU: [expected]}


@pytest.mark.parametrize(("written", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(tmp_path: Path, written: str, problem: str) -> None:
    """What cannot be shared as written is refused, with the key and what to do."""
    assert refusal(tmp_path, f"sharing: {{{written}}}") == problem


def test_both_kinds_for_two_resources(tmp_path: Path) -> None:
    """A node may share one resource by MPS and another by time-slicing."""
    other = "timeSlicing: {resources: [{name: mig-1g.10gb, replicas: 3}]}"
    found = shares(tmp_path, f"{ONE}, {other}", {"service.resourceConfig": "a10:slice:4"})
    mig, a10 = "nvidia.com/mig-1g.10gb", "nvidia.com/a10"
    assert found == {
        GPU: [Share(GPU, 2, None, MpsLimits())],
        mig: [Share(mig, 3)],
        a10: [Share("nvidia.com/slice", 4)],
    }


def test_a_flag_for_the_same_resource(tmp_path: Path) -> None:
    """A resource that is shared by --resource-config cannot be shared by MPS too."""
    content, flag = f"sharing: {{{ONE}}}", {"service.resourceConfig": "gpu:shared:2"}
    assert refusal(tmp_path, content, flag) == (
        "cannot share nvidia.com/gpu twice, by --resource-config and by sharing.mps in: "
        "use only one of them"
    )


def test_a_flag_for_the_same_name(tmp_path: Path) -> None:
    """A resource that --resource-config renames cannot get a name that MPS gives."""
    flag = {"service.resourceConfig": "a10:gpu:2"}
    assert refusal(tmp_path, f"sharing: {{{ONE}}}", flag) == (
        "sharing.mps: resources that are shared without MPS are named nvidia.com/gpu too; "
        "write another rename"
    )


@pytest.mark.parametrize(("root", "problem"), ROOTS.values(), ids=ROOTS)
def test_a_bad_root(tmp_path: Path, root: str, problem: str) -> None:
    """A root in which no daemon could make its sockets is refused, but only with MPS."""
    content = f'flags: {{mpsRoot: "{root}"}}\n'
    assert refusal(tmp_path, f"{content}sharing: {{{ONE}}}") == problem
    (tmp_path / "other.yaml").write_text(content)
    load({"service.configFile": str(tmp_path / "other.yaml")}, {})


def test_the_longest_root(tmp_path: Path) -> None:
    """The longest root leaves room for the pipe folder of a device."""
    root = "/" + "r" * 40
    assert shares(tmp_path, ONE, {"flags.mpsRoot": f"{root}/"}) == shares(tmp_path, ONE)
