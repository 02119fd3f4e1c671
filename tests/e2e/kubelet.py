"""A real kubelet without an API server: it runs static pods and answers on its local endpoints."""

import http.client
import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from proto.podresources_pb2 import ListPodResourcesRequest
from proto.podresources_pb2_grpc import PodResourcesListerStub
from tests.e2e.containerd import Containerd
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.images import IMAGE

# The next two paths are fixed in this kubelet, whatever its --root-dir is.
ROOT = Path("/var/lib/kubelet")
PLUGIN_FOLDER = ROOT / "device-plugins"
POD_RESOURCES_SOCKET = ROOT / "pod-resources" / "kubelet.sock"
_CHECKPOINT = PLUGIN_FOLDER / "kubelet_internal_checkpoint"

PRINT_VISIBLE_DEVICES = "echo devices=$NVIDIA_VISIBLE_DEVICES; exec sleep 3600"

_LOGS = Path("/var/log/pods")
NODE = "e2e"
_PORT = 10255
_CONTAINER = "main"
_PATIENCE = 60  # a guard only: what is waited for takes a few seconds


@dataclass(frozen=True, slots=True)
class Pod:
    """The state of a pod, as the kubelet reports it."""

    phase: str
    reason: str
    message: str


class Kubelet:
    """A running kubelet, which can be restarted."""

    def __init__(
        self,
        binary: Path,
        containerd: Containerd,
        folder: Path,
        cgroup_root: str = "",
        kubeconfig: Path | None = None,
    ) -> None:
        """Start *binary* with an empty root; configuration, manifests and log go to *folder*.

        With *cgroup_root*, each pod has a control group of its own below that; with *kubeconfig*,
        it is a node of that cluster.
        """
        self._containerd = containerd
        self._folder = folder
        self._manifests = folder / "manifests"
        self._manifests.mkdir()
        _empty_root()
        configuration = folder / "kubelet.json"
        settings = _configuration(folder, cgroup_root)
        if kubeconfig:
            settings["address"] = "0.0.0.0"  # noqa: S104 - in the cluster's own network
        configuration.write_text(json.dumps(settings))
        self._command = [
            str(binary),
            f"--config={configuration}",
            f"--hostname-override={NODE}",
            f"--root-dir={ROOT}",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{containerd.socket}",
            *([f"--kubeconfig={kubeconfig}"] if kubeconfig else ()),
        ]
        self.start()

    def start(self) -> None:
        """Start the kubelet and wait until it answers and accepts registrations."""
        self._daemon = Daemon(self._command, self._folder / "kubelet.log")
        try:
            self._daemon.wait_ready(self._answers, _PATIENCE, "the kubelet answers")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the kubelet; running pods stay."""
        self._daemon.stop()

    def clear(self) -> None:
        """Remove all pods, wait until their containers have ended, and stop the kubelet."""
        for manifest in self._manifests.iterdir():
            manifest.unlink()
        try:
            wait_until(lambda: not self._containerd.shims(), _PATIENCE, "the pods are gone")
        finally:
            self.stop()

    def show_log(self) -> None:
        """Print the end of its log, and the logs of the pods' containers."""
        self._daemon.show_log()
        for log in sorted(_LOGS.glob("*/*/*.log")):
            print(f"--- {log}", log.read_text(), sep="\n")  # noqa: T201

    def run_pod(
        self, name: str, resource: str, count: int, command: str = PRINT_VISIBLE_DEVICES
    ) -> None:
        """Start a static pod with *count* devices of *resource* that runs the shell *command*."""
        self.run(_pod(name, resource, count, command))

    def run(self, pod: dict[str, Any]) -> None:
        """Start a static *pod*."""
        unseen = self._folder / f"{pod['metadata']['name']}.json"
        unseen.write_text(json.dumps(pod))
        # Moved into place, because the kubelet watches the folder and might read half a file.
        unseen.rename(self._manifests / unseen.name)

    def remove(self, name: str) -> None:
        """Remove the static pod *name*; the kubelet stops it."""
        (self._manifests / f"{name}.json").unlink()

    def wait_for_phase(self, name: str, phase: str) -> Pod:
        """Wait until the pod *name* is in *phase* and return it; fail if its phase becomes Failed
        instead.
        """

        def probe() -> Pod | None:
            pod = self.pod(name)
            return pod if pod and pod.phase in (phase, "Failed") else None

        pod = wait_until(probe, _PATIENCE, f"pod {name!r} is {phase}")
        assert pod.phase == phase, pod
        return pod

    def pod(self, name: str) -> Pod | None:
        """Return the kubelet's state of the pod *name*, or None if it is unknown."""
        status = self._status(name)
        if status is None:
            return None
        return Pod(*(status.get(key, "") for key in ("phase", "reason", "message")))

    def ready(self, name: str) -> bool:
        """Return whether the pod *name* passes its probes; fail if it was restarted."""
        containers = (self._status(name) or {}).get("containerStatuses") or ()
        assert all(container["restartCount"] == 0 for container in containers), containers
        return bool(containers) and all(container["ready"] for container in containers)

    def _status(self, name: str) -> dict[str, Any] | None:
        for item in json.loads(self._read("pods"))["items"] or ():
            if item["metadata"]["name"] == f"{name}-{NODE}":
                status: dict[str, Any] = item["status"]
                return status
        return None

    def visible_devices(self, name: str) -> set[str]:
        """Return the devices in the environment of the running pod *name*."""
        return wait_until(lambda: set(self._printed(name)), _PATIENCE, f"{name!r} printed a line")

    def registrations(self, resource: str) -> int:
        """Return the number of registrations of *resource* since the kubelet started."""
        sample = f'kubelet_device_plugin_registration_total{{resource_name="{resource}"}} '
        match = re.search(re.escape(sample) + r"(\d+)", self._read("metrics").decode())
        return int(match[1]) if match else 0

    def healthy_devices(self, resource: str) -> set[str]:
        """Return the Healthy devices in the kubelet's checkpoint, which is the last list it
        received.
        """
        if not _CHECKPOINT.exists():
            return set()
        registered = json.loads(_CHECKPOINT.read_text())["Data"]["RegisteredDevices"]
        return set((registered or {}).get(resource) or ())

    def listed_at(self) -> int:
        """Return the time of the kubelet's checkpoint, which it writes for each list."""
        return _CHECKPOINT.stat().st_mtime_ns if _CHECKPOINT.exists() else 0

    def wait_for_devices(self, resource: str, devices: set[str], since: int = 0) -> None:
        """Wait until exactly *devices* of *resource* are Healthy, in a list after the time *since*.

        Waiting for a registration is not enough: the kubelet counts it before it asks for the list.
        """

        def probe() -> bool:
            return self.listed_at() > since and self.healthy_devices(resource) == devices

        wait_until(probe, _PATIENCE, f"the kubelet counts {sorted(devices)} of {resource}")

    def allocated(self, name: str) -> dict[str, set[str]]:
        """Return the devices of the pod *name* by resource, from the pod resources API."""
        with grpc.insecure_channel(
            f"unix:{POD_RESOURCES_SOCKET}", options=[("grpc.default_authority", "localhost")]
        ) as channel:
            answer = PodResourcesListerStub(channel).List(ListPodResourcesRequest(), timeout=10)
        devices: dict[str, set[str]] = {}
        for pod in answer.pod_resources:
            for container in pod.containers if pod.name == f"{name}-{NODE}" else ():
                for entry in container.devices:
                    devices.setdefault(entry.resource_name, set()).update(entry.device_ids)
        return devices

    def _printed(self, name: str) -> Iterator[str]:
        for log in _LOGS.glob(f"*_{name}-{NODE}_*/{_CONTAINER}/*.log"):
            for line in log.read_text().splitlines():
                _, found, devices = line.partition("devices=")
                if found:
                    yield from devices.split(",")

    def _answers(self) -> bool:
        try:
            return self._read("healthz") == b"ok" and POD_RESOURCES_SOCKET.exists()
        except (OSError, http.client.HTTPException):
            return False

    def _read(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=10)
        try:
            connection.request("GET", f"/{path}")
            return connection.getresponse().read()
        finally:
            connection.close()


def _empty_root() -> None:
    # If the kubelet stops right after its pods, their in-memory volumes stay mounted.
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{ROOT}/")]):
        subprocess.run(["/usr/bin/umount", mount], check=True)
    for entry in ROOT.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _configuration(folder: Path, cgroup_root: str) -> dict[str, Any]:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": "127.0.0.1",
        "readOnlyPort": _PORT,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "staticPodPath": str(folder / "manifests"),
        "fileCheckFrequency": "2s",
        "syncFrequency": "1s",
        "volumePluginDir": str(folder / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": bool(cgroup_root),
        "cgroupRoot": cgroup_root,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        # Do not evict the pods or delete their image when the disk of the test machine is full.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
    }


def _pod(name: str, resource: str, count: int, command: str) -> dict[str, Any]:
    container = {
        "name": _CONTAINER,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", command],
        "resources": {"limits": {resource: count}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        # The default uid depends on the manifest alone, and may match an earlier test's containers.
        "metadata": {"name": name, "namespace": "default", "uid": str(uuid.uuid4())},
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
        },
    }
