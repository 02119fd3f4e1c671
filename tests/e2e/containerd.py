"""A containerd for the tests: its own folders and socket, no network, and only the tests' image."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon, processes
from tests.e2e.images import IMAGE, write_image

# restrict_oom_score_adj: without it and without CAP_SYS_RESOURCE, pod sandboxes cannot start.
# The native snapshotter copies: it works on any file system, and the image is small.
_CONFIGURATION = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{folder}/sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  sandbox_image = "{image}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"""


class Containerd:
    """A running containerd."""

    def __init__(self, folder: Path, *, network: bool = False) -> None:
        """Start containerd with all its files in *folder*, and load the image.

        With *network*, pods have addresses of their own, on a bridge that it makes.
        """
        self.socket = folder / "sock"
        if network:
            (folder / "cni").mkdir()
            (folder / "cni/e2e.conflist").write_text(json.dumps(_network(folder / "addresses")))
        configuration = folder / "config.toml"
        configuration.write_text(_CONFIGURATION.format(folder=folder, image=IMAGE))
        command = ["/usr/bin/containerd", f"--config={configuration}"]
        self._daemon = Daemon(command, folder / "containerd.log")
        try:
            self._daemon.wait_ready(self._answers, 30, "containerd answers")
            archive = folder / "image.tar"
            write_image(Path("/bin/busybox"), archive)
            self.load(archive)
        except BaseException:
            self.stop()
            raise

    def load(self, archive: Path) -> None:
        """Import the images in *archive* under the names that they have there."""
        imported = self._ctr("images", "import", "--snapshotter=native", str(archive))
        assert imported.returncode == 0, imported.stderr.decode()

    def tag(self, name: str, other: str) -> None:
        """Give the image *name* another name too."""
        tagged = self._ctr("images", "tag", name, other)
        assert tagged.returncode == 0, tagged.stderr.decode()

    def stop(self) -> None:
        """Stop containerd; containers that still run are not stopped."""
        self._daemon.stop()

    def shims(self) -> list[int]:
        """Return the pids of its shims; a shim ends after the last container of its pod."""
        address = f"-address {self.socket}"
        return [
            pid
            for pid, command in processes().items()
            if "containerd-shim" in command.split()[0] and address in command
        ]

    def show_log(self) -> None:
        """Print the end of the log."""
        self._daemon.show_log()

    def _answers(self) -> bool:
        return self._ctr("version").returncode == 0

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["/usr/bin/ctr", "--address", str(self.socket), "--namespace", "k8s.io"]
        return subprocess.run([*command, *arguments], check=False, capture_output=True)


def _network(given: Path) -> dict[str, Any]:
    """Return the network of the pods: they reach each other and their node."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": "10.88.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(given),
    }
    bridge = {"type": "bridge", "bridge": "e2e", "isGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "e2e", "plugins": [bridge]}
