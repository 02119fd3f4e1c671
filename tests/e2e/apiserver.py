"""A real API server with etcd, for tests that use kubectl and Helm."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon
from tests.fakes.helm import CACHE

KUBECTL = CACHE / "kubectl-1.32.3"
"""The name that scripts/fetch-helm gives to the file."""

_TOKEN = "e2e"  # noqa: S105 - of a server that lives for a test, on loopback
_PATIENCE = 60


class ApiServer:
    """An API server, without controllers: a DaemonSet creates no pods."""

    def __init__(
        self, binaries: Path, folder: Path, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Start etcd and kube-apiserver from the folder *binaries*; their data goes to *folder*.

        It listens at *address* and *port*; 0: a free one.
        """
        self._folder = folder
        self._address = address
        self.kubeconfig = folder / "kubeconfig"
        self.key = folder / "service-account.key"
        self.certificate = folder / "certificates/apiserver.crt"
        peer, client, self._port = _free_port(), _free_port(), port or _free_port()
        self._etcd = Daemon(_etcd(binaries, folder, peer, client), folder / "etcd.log")
        try:
            self._server = Daemon(self._command(binaries, client), folder / "apiserver.log")
        except BaseException:
            self._etcd.kill()
            raise
        try:
            self._write_kubeconfig()
            self._server.wait_ready(self._is_ready, _PATIENCE, "the API server is ready")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the API server and etcd."""
        self._server.stop()
        self._etcd.stop()

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl and return its output; raises CalledProcessError if it fails."""
        command = [str(KUBECTL), f"--kubeconfig={self.kubeconfig}", *arguments]
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_PATIENCE
        )
        return result.stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects that `kubectl get` lists."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o=json"))[
            "items"
        ]
        return items

    @contextlib.contextmanager
    def node(self, name: str, status: dict[str, Any]) -> Iterator[Callable[[], dict[str, Any]]]:
        """Create a node with this *status*; delete it afterwards. Yield a function to read it."""
        file = self._folder / "node.json"
        file.write_text(
            json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        )
        self.kubectl("create", f"--filename={file}")
        try:
            patch = json.dumps({"status": status})
            self.kubectl("patch", "node", name, "--subresource=status", f"--patch={patch}")
            yield lambda: self.get("nodes", f"--field-selector=metadata.name={name}")[0]
        finally:
            self.kubectl("delete", "node", name)

    def _is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw=/readyz") == "ok"
        except subprocess.CalledProcessError:
            return False

    def _command(self, binaries: Path, etcd_port: int) -> list[str]:
        openssl = ["/usr/bin/openssl", "genrsa", "-out", str(self.key), "2048"]
        subprocess.run(openssl, check=True, capture_output=True)
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f"{_TOKEN},e2e,e2e,system:masters\n")
        return [
            f"{binaries}/kube-apiserver",
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
            f"--secure-port={self._port}",
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            f"--cert-dir={self.certificate.parent}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-signing-key-file={self.key}",
            f"--service-account-key-file={self.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
        ]

    def _write_kubeconfig(self) -> None:
        server = {
            "server": f"https://{self._address}:{self._port}",
            "certificate-authority": str(self.certificate),
        }
        names = {"cluster": "e2e", "user": "e2e"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": server}],
            "users": [{"name": "e2e", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "e2e", "context": names}],
            "current-context": "e2e",
        }
        self.kubeconfig.touch(0o600)
        self.kubeconfig.write_text(json.dumps(content))


def _etcd(binaries: Path, folder: Path, peer: int, client: int) -> list[str]:
    return [
        f"{binaries}/etcd",
        f"--data-dir={folder}/etcd",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        "--unsafe-no-fsync",
    ]


def _free_port() -> int:
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        port: int = end.getsockname()[1]
        return port
