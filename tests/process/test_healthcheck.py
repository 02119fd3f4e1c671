"""The HEALTHCHECK of the image, and `status`: both need neither a certificate nor a token."""

import asyncio
import json
import resource
import signal
from pathlib import Path

import pytest

from supervisor.commands.fetch import fetch
from tests.fakes import commands
from tests.fakes.certificates import certify
from tests.fakes.service import kubelet, service, until

DOCKERFILE = Path(__file__).parents[2] / "deploy/image/Dockerfile"
GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of this test


def healthcheck(folder: Path) -> tuple[int, str]:
    """Run the HEALTHCHECK of the image; return its exit code and what it says."""
    command = DOCKERFILE.read_text().partition("HEALTHCHECK ")[2].partition("CMD ")[2]
    _, *arguments = json.loads(command.partition("\n")[0])
    environment = {"GPU_SHARING_RUNTIME_DIR": str(folder)}
    flag, module = arguments
    assert flag == "-m"
    done = commands.run(module=module, environment=environment)
    return done.returncode, done.stderr


def guards(folder: Path) -> dict[str, list[str]]:
    """Return options by what they require of clients; their files are in *folder*."""
    for name in ("server", "clients"):
        certify(folder, name)
    (folder / "token").write_text(TOKEN)
    tls = [f"--metrics-tls-cert={folder}/server.crt", f"--metrics-tls-key={folder}/server.key"]
    ca, token = f"--metrics-client-ca={folder}/clients.crt", f"--metrics-token-file={folder}/token"
    return {
        "nothing": [],
        "TLS": tls,
        "certificate": [*tls, ca],
        "token": [token],
        "all": [*tls, ca, token],
    }


@pytest.mark.parametrize("required", ["nothing", "TLS", "certificate", "token", "all"])
def test_the_healthcheck_passes_each_guard(folder: Path, required: str) -> None:
    """The image's HEALTHCHECK works whatever clients have to show, and the disk may be full."""

    async def story() -> None:
        options = (await asyncio.to_thread(guards, folder))[required]
        async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("serving metrics")

            async def passes() -> bool:
                return await asyncio.to_thread(healthcheck, folder) == (0, "")

            await until(passes, "passing health check")
            pid = running.process.pid
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            await running.restarted("exporter", running.kill("exporter"))
            await running.logged("cannot write the file with the URL of the metrics")
            await until(passes, "passing health check without the file")
            assert json.loads(await asyncio.to_thread(fetch, folder, "/status"))["version"]
            assert not (folder / "exporter.url").exists()
            assert running.count("process is not ready") == 0

    asyncio.run(story())


def test_the_healthcheck_of_a_service_that_hangs(folder: Path) -> None:
    """The image's HEALTHCHECK fails when the exporter does not answer."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("serving metrics")

            async def passes() -> bool:
                return await asyncio.to_thread(healthcheck, folder) == (0, "")

            await until(passes, "passing health check")
            running.kill("exporter", signal.SIGSTOP)
            code, said = await asyncio.to_thread(healthcheck, folder)
            assert (code, said.startswith("cannot reach unix:")) == (1, True)

    asyncio.run(story())
