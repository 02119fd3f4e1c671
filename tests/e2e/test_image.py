"""The image and the manifest as they are deployed: built, loaded, and run by a real kubelet."""

import json
import re
import shutil
import subprocess
import tarfile
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.containerd import Containerd
from tests.e2e.daemon import processes, wait_until
from tests.e2e.kubelet import PLUGIN_FOLDER, Kubelet
from tests.e2e.plugin_image import REPOSITORY, build

pytestmark = pytest.mark.e2e

OVERLAY = REPOSITORY / "deploy/kustomize/overlays/simulated"
MIB = 1 << 20

KUBECTL = shutil.which("kubectl") or ""
NAME = "gpu-sharing-plugin"
GPU = "nvidia.com/gpu"
PATIENCE = 60


def rendered() -> dict[str, dict[str, Any]]:
    """Return the objects of the overlay by kind."""
    if not KUBECTL:
        pytest.skip("needs kubectl on PATH, to render the overlay")
    text = subprocess.run(
        [KUBECTL, "kustomize", str(OVERLAY)], check=True, capture_output=True, text=True
    ).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def static_pod(folder: Path) -> dict[str, Any]:
    """Return the DaemonSet's pod, changed for a kubelet without an API server.

    The ConfigMap becomes a folder of the host. Without a network plugin the pod uses the host's
    network, so it listens, and is probed, on loopback only.
    """
    objects = rendered()
    template = objects["DaemonSet"]["spec"]["template"]
    spec = template["spec"]
    for name, text in objects["ConfigMap"]["data"].items():
        (folder / name).write_text(text)
    for volume in spec["volumes"]:
        if volume.pop("configMap", None):
            volume["hostPath"] = {"path": str(folder), "type": "Directory"}
    spec["hostNetwork"] = True
    (container,) = spec["containers"]
    container["env"].append({"name": "METRICS_ADDRESS", "value": "127.0.0.1:9450"})
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        container[probe]["httpGet"]["host"] = "127.0.0.1"
    metadata = {**template["metadata"], "name": NAME, "namespace": "kube-system"}
    metadata["uid"] = str(uuid.uuid4())
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def status_of(title: str) -> dict[str, str]:
    """Return the fields of /proc/PID/status of the process with *title*."""
    pids = [pid for pid, command in processes().items() if command == title]
    (pid,) = pids
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_image_is_small(archive: Path) -> None:
    """Above its base the image has one layer, smaller than 120 MB, without pip, tests, or the tool
    that made its bill of materials.
    """
    with tarfile.open(archive) as image:
        (manifest,) = json.load(image.extractfile("manifest.json"))  # type: ignore[arg-type]
        _, layer = manifest["Layers"]
        assert image.getmember(layer).size < 120 * MIB
        with tarfile.open(fileobj=image.extractfile(layer)) as files:
            names = files.getnames()
            bill = files.getmember("opt/gpu-sharing-plugin/sbom.cdx.json")
            named = json.load(files.extractfile(bill))  # type: ignore[arg-type]

    assert "opt/gpu-sharing-plugin/bin/gpu-sharing-plugin" in names
    assert not [name for name in names if {"pip", "setuptools", "tests"} & {*name.split("/")}]
    assert not [name for name in names if "cyclonedx" in name]
    assert (bill.isreg(), bill.uid, bill.gid, bill.mode & 0o7777) == (True, 0, 0, 0o644)
    shipped = re.findall(
        r"^([\w.-]+)==", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE
    )
    listed = {component["name"].lower().replace("_", "-") for component in named["components"]}
    assert listed <= {*shipped}
    assert len(listed) > 20


def test_a_base_without_a_digest_is_refused(kubelet_binary: Path, tmp_path: Path) -> None:  # noqa: ARG001
    """An image is built only on a base that is named by its digest."""
    refused = build("localhost/base", tmp_path)

    assert refused.returncode != 0
    assert (
        'cannot build an image on "localhost/base": name the base by its digest' in refused.stderr
    )


def test_the_pod_of_the_manifest_serves_other_pods(
    archive: Path, containerd: Containerd, kubelet: Kubelet, tmp_path: Path
) -> None:
    """The DaemonSet's pod becomes ready without rights, and two pods share its simulated GPUs."""
    containerd.load(archive)
    kubelet.run(static_pod(tmp_path))
    kubelet.wait_for_phase(NAME, "Running")
    wait_until(lambda: kubelet.ready(NAME), PATIENCE, "the plugin's pod is ready")
    supervisor = status_of("gpu-sharing-plugin: supervisor")
    held = set()
    for name in ("image-first", "image-second"):
        kubelet.run_pod(name, GPU, 1)
        kubelet.wait_for_phase(name, "Running")
        held |= kubelet.allocated(name)[GPU]
        assert len(kubelet.visible_devices(name)) == 1

    assert (supervisor["CapEff"], supervisor["NoNewPrivs"]) == ("0" * 16, "1")
    assert supervisor["Seccomp"] == "2"
    assert len(kubelet.healthy_devices(GPU)) == 8
    assert len(held) == 2
    assert kubelet.ready(NAME)

    kubelet.remove(NAME)
    wait_until(lambda: not [*PLUGIN_FOLDER.glob("nvidia*")], PATIENCE, "its sockets are gone")
