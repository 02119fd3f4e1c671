"""The pod and the container of a process by its cgroups, real ones and hostile ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.exporter.usage_cgroup import UNCLEAR, Location, locate, nests

UID = "2c48913c-b29f-11e7-9350-020968147796"
SLICE = UID.replace("-", "_")
STATIC = "36b6d6be73b1065af369b3985edafa09"
"""The UID of a static pod is a hash without dashes."""
ID = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"
NODE = "3350ade4226f0adcd9e4e9545d7c2a16a5aa362d12315f2a88e2024cea1246cf"
"""The container that is a node of kind or minikube."""

HERE = Location(UID, ID)
POD = Location(UID, "")
SYSTEMD = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice"
FOLDERS = f"/kubepods/besteffort/pod{UID}"


def v1(path: str, unified: str = "") -> str:
    """Return the file of a process with *path* in each hierarchy of cgroup v1."""
    controllers = ("rdma", "blkio", "cpu,cpuacct", "devices", "memory", "name=systemd")
    lines = [f"{13 - n}:{name}:{path}" for n, name in enumerate(controllers)]
    return "\n".join([*lines, *([f"0::{unified}"] if unified else [])]) + "\n"


REAL = {
    "containerd, systemd": (f"0::{SYSTEMD}/cri-containerd-{ID}.scope\n", HERE),
    "containerd, systemd, guaranteed": (
        f"0::/kubepods.slice/kubepods-pod{SLICE}.slice/cri-containerd-{ID}.scope\n",
        HERE,
    ),
    "containerd, systemd, v1": (v1(f"{SYSTEMD}/cri-containerd-{ID}.scope"), HERE),
    "containerd, cgroupfs": (f"0::{FOLDERS}/{ID}\n", HERE),
    "containerd, cgroupfs, guaranteed, v1": (v1(f"/kubepods/pod{UID}/{ID}"), HERE),
    "containerd with cgroupfs, kubelet with systemd": (
        v1(
            f"/system.slice/containerd.service/kubepods-burstable-pod{SLICE}.slice:cri-containerd:{ID}"
        ),
        HERE,
    ),
    "the same at the root of the hierarchy": (
        v1(f"/kubepods-besteffort-pod{SLICE}.slice:cri-containerd:{ID}"),
        HERE,
    ),
    "hybrid: nothing in the unified hierarchy": (
        v1(f"{FOLDERS}/{ID}", unified="/system.slice/containerd.service"),
        HERE,
    ),
    "static pod": (
        f"0::/kubepods.slice/kubepods-pod{STATIC}.slice/cri-containerd-{ID}.scope\n",
        Location(STATIC, ID),
    ),
    "CRI-O, systemd": (f"0::{SYSTEMD}/crio-{ID}.scope\n", HERE),
    "CRI-O with crun": (f"0::{SYSTEMD}/crio-{ID}.scope/container\n", HERE),
    "CRI-O, cgroupfs": (f"0::{FOLDERS}/crio-{ID}\n", HERE),
    "CRI-O's conmon": (f"0::{SYSTEMD}/crio-conmon-{ID}.scope\n", POD),
    "Docker, systemd": (v1(f"{SYSTEMD}/docker-{ID}.scope"), HERE),
    "Docker, cgroupfs": (v1(f"{FOLDERS}/{ID}"), HERE),
    "systemd in the container": (f"0::{SYSTEMD}/cri-containerd-{ID}.scope/init.scope\n", HERE),
    "a VM of Kata in the pod": (f"0::{SYSTEMD}/kata_{ID}\n", POD),
    "a process in the pod's own cgroup": (f"0::{SYSTEMD}\n", POD),
    "a cgroup that was removed": (f"0::{SYSTEMD}/cri-containerd-{ID}.scope (deleted)\n", HERE),
    "kubelet with a cgroup root": (
        (
            f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"
            f"/kubelet-kubepods-besteffort-pod{SLICE}.slice/cri-containerd-{ID}.scope\n"
        ),
        HERE,
    ),
    "seen from a pod, systemd": (
        f"0::/../../kubepods-besteffort-pod{SLICE}.slice/cri-containerd-{ID}.scope\n",
        HERE,
    ),
    "seen from a pod of another class, systemd": (
        (
            f"0::/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE}.slice"
            f"/docker-{ID}.scope\n"
        ),
        HERE,
    ),
    "seen from a pod, cgroupfs": (f"0::/../../pod{UID}/{ID}\n", HERE),
    "seen from a pod of another class, cgroupfs": (
        f"0::/../../../besteffort/pod{UID}/{ID}\n",
        HERE,
    ),
    "seen from a container of the same pod": (f"0::/../crio-{ID}.scope\n", Location("", ID)),
    "a process of the host": ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
    "a service of the host": (v1("/system.slice/nvidia-persistenced.service"), None),
    "a service of the host, seen from a pod": ("0::/../../../../system.slice/Xorg.service\n", None),
    "a container without a pod": (f"0::/system.slice/docker-{ID}.scope\n", None),
    "a container of Podman": (f"0::/machine.slice/libpod-{ID}.scope/container\n", None),
    "the root": ("0::/\n", None),
    "the root of v1": (v1("/"), None),
}


@pytest.mark.parametrize(("text", "place"), REAL.values(), ids=REAL)
def test_real_cgroups(text: str, place: Location | None) -> None:
    """Each runtime, driver and version of cgroups gives the pod and the container."""
    assert locate(text) == place


IN_NODES = {
    "kind, systemd": (
        f"/system.slice/docker-{NODE}.scope/kubelet.slice/kubelet-kubepods.slice"
        f"/kubelet-kubepods-pod{SLICE}.slice/cri-containerd-{ID}.scope"
    ),
    "kind, cgroupfs": f"/docker/{NODE}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
    "minikube": (
        f"/docker/{NODE}/kubepods.slice/kubepods-besteffort.slice"
        f"/kubepods-besteffort-pod{SLICE}.slice/crio-{ID}.scope"
    ),
}


@pytest.mark.parametrize("path", IN_NODES.values(), ids=IN_NODES)
def test_kubernetes_in_docker(path: str) -> None:
    """A node that is a container has pods, for a reader in that node only."""
    for text in (f"0::{path}\n", v1(path)):
        assert locate(text) is None
        before, _, after = path.partition(NODE)
        node = f"{before}{NODE}{after.partition('/')[0]}"
        reader = v1(f"{node}/kubelet/kubepods/pod{STATIC}/{'f' * 64}")
        assert locate(text, nests(reader)) == HERE


VICTIM = "11111111-2222-3333-4444-555555555555"
FAKE = f"kubepods/burstable/pod{VICTIM}/{'e' * 64}"
FAKE_SLICE = f"kubepods.slice/kubepods-pod{VICTIM.replace('-', '_')}.slice/crio-{'e' * 64}.scope"

HOSTILE = {
    "nested in a container": (f"0::{SYSTEMD}/cri-containerd-{ID}.scope/{FAKE}\n", HERE),
    "nested in a container, as a slice": (f"0::{FOLDERS}/{ID}/{FAKE_SLICE}\n", HERE),
    "nested, seen from a pod": (f"0::/../../pod{UID}/{ID}/{FAKE}\n", HERE),
    "nested in a container of the reader's pod": (
        f"0::/../{ID}/{FAKE}\n",
        Location("", ID),
    ),
    "nested beside the pod's containers": (f"0::{SYSTEMD}/x/{FAKE}\n", POD),
    "in a container of Docker": (f"0::/docker/{ID}/{FAKE}\n", None),
    "in a container of Podman": (f"0::/machine.slice/libpod-{ID}.scope/{FAKE_SLICE}\n", None),
    "of a user who is logged in": (
        f"0::/user.slice/user-1000.slice/user@1000.service/app.slice/{FAKE_SLICE}\n",
        None,
    ),
    "a name with a carriage return": (
        f"0::{SYSTEMD}/cri-containerd-{ID}.scope/x\r0::/{FAKE}\n",
        HERE,
    ),
    "a name with a line separator": (f"0::{FOLDERS}/{ID}/x\u2028\x850::/{FAKE}\n", HERE),
    "a name with colons": (f"0::{FOLDERS}/{ID}/0::/{FAKE}\n", HERE),
    "a UID with wildcards": (f"0::/kubepods/pod*/{ID}/{FAKE}\n", Location("*", ID)),
    "a UID with dots": (f"0::/kubepods/pod../{ID}/{FAKE}\n", Location("..", ID)),
    "a slice whose UID has dots": (
        f"0::/kubepods.slice/kubepods-pod1.2.slice/crio-{ID}.scope/{FAKE}\n",
        Location("1.2", ID),
    ),
    "an ID that is none": (f"0::/kubepods/pod{UID}/{ID.upper()}/{FAKE}\n", POD),
    "an ID that is too long": (f"0::/kubepods/pod{UID}/{ID}a\n", POD),
    "different pods in two hierarchies": (
        f"3:memory:{FOLDERS}/{ID}\n2:devices:/{FAKE}\n",
        UNCLEAR,
    ),
    "a service that looks like a pod": ("0::/system.slice/podman.service\n", None),
    "nothing": ("", None),
    "no cgroups": ("kubepods\n:\n::\n", None),
}


@pytest.mark.parametrize(("text", "place"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_cgroups(text: str, place: Location | None) -> None:
    """Whatever a pod or a user names its own cgroups, the outermost pod counts, or none."""
    assert locate(text) == place


names = st.text(st.characters(exclude_characters="/\n", exclude_categories=["Cs"]), min_size=1)
lookalikes = st.sampled_from([*FAKE.split("/"), *FAKE_SLICE.split("/"), "..", "user.slice", NODE])


@given(st.lists(names | lookalikes, max_size=6))
def test_any_nested_cgroups(nested: list[str]) -> None:
    """Any cgroups below a container change nothing."""
    inside = "".join(f"/{name}" for name in nested)
    assert locate(f"0::{SYSTEMD}/cri-containerd-{ID}.scope{inside}\n") == HERE
    assert locate(v1(f"{FOLDERS}/{ID}{inside}")) == HERE
    assert locate(f"0::/docker/{ID}{inside}\n") is None
    assert locate(f"0::/../{ID}{inside}\n") == Location("", ID)


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text is located or not, without an error."""
    locate(text, nests(text))
