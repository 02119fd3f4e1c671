"""A whole cluster on this machine: control plane, one node, and a network of its own."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.apiserver import ApiServer
from tests.e2e.containerd import Containerd
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.kubelet import NODE, Kubelet

_NEW_NETWORK = 0x40000000
_SERVICE = "10.96.0.1"
"""The address of the service `kubernetes`, at which pods look for the API server."""
_SETUP = (
    "link set lo up",
    f"address add {_SERVICE}/32 dev lo",
    "link add node type veth peer name other",
    "address add 10.77.0.1/24 dev node",
    "link set node up",
    "link set other up",
    "route add default dev node",
)
_PATIENCE = 120

Object = dict[str, Any]


@contextmanager
def own_network() -> Iterator[None]:
    """Give this thread, and the processes that it starts, a network of their own.

    Its links, addresses and rules are gone with the last process in it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(_NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
        try:
            for change in _SETUP:
                subprocess.run(["/usr/sbin/ip", *change.split()], check=True)
            yield
        finally:
            assert libc.setns(before, _NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)


class Cluster:
    """A running cluster of one node; all processes that use it need its network."""

    def __init__(self, binaries: Path, kubelet: Path, controllers: Path, folder: Path) -> None:
        """Start all processes, with their data in *folder*, and wait until the node is ready."""
        with ExitStack() as started:
            self.server = ApiServer(binaries, folder, _SERVICE, 443)
            started.callback(self.server.stop)
            for command in _controllers(controllers, self.server):
                daemon = Daemon(command, folder / f"{Path(command[0]).name}.log")
                started.callback(daemon.stop)
                started.callback(daemon.show_log)
            self.containerd = Containerd(folder, network=True)
            started.callback(self.containerd.stop)
            node = Kubelet(kubelet, self.containerd, folder, "", self.server.kubeconfig)
            started.callback(node.clear)
            started.callback(node.show_log)
            started.callback(self.clear)
            wait_until(self._is_ready, _PATIENCE, "the node is ready")
            self._started = started.pop_all()

    def stop(self) -> None:
        """Delete all pods, and stop all processes."""
        self._started.close()

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl and return its output; raises CalledProcessError if it fails."""
        return self.server.kubectl(*arguments)

    def clear(self) -> None:
        """Delete what runs pods, and all pods; wait until their containers have ended."""
        every = ("--all", "--all-namespaces")
        self.kubectl("delete", "daemonsets,deployments,jobs", *every)
        self.kubectl("delete", "pods", *every, "--grace-period=1")
        wait_until(lambda: not self.containerd.shims(), _PATIENCE, "the pods are gone")

    def _is_ready(self) -> bool:
        nodes = self.server.get("nodes", f"--field-selector=metadata.name={NODE}")
        accounts = self.server.get("serviceaccounts", "--namespace=default")
        return bool(accounts) and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in nodes
            if not node["spec"].get("taints")
            for condition in node["status"].get("conditions", ())
        )


def _controllers(binaries: Path, server: ApiServer) -> Iterator[list[str]]:
    common = [f"--kubeconfig={server.kubeconfig}", "--leader-elect=false", "--port=0"]
    yield [
        f"{binaries}/kube-controller-manager",
        *common,
        "--secure-port=0",
        f"--service-account-private-key-file={server.key}",
        f"--root-ca-file={server.certificate}",
    ]
    yield [f"{binaries}/kube-scheduler", *common, "--secure-port=0"]
