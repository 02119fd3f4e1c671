"""Nothing that is too long ends a process: it is refused in one line, or told in a short text."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from simulator.kubelet import Kubelet
from tests.fakes.apiserver import apiserver
from tests.fakes.service import Service, kubelet, service, until

GPU, LABEL = "nvidia.com/gpu", "nvidia.com/device-plugin.config"
KEPT = "cannot use the new configuration, keeping the old one"
PROBLEM = "cannot serve as configured"
NOTICE = "a setting has no effect on this node"
UUID = "GPU-11111111-1111-1111-1111-111111111111"

SHARED = "sharing: {{timeSlicing: {{resources: [{}]}}}}"
ENTRY = "{{name: gpu, replicas: 3, devices: [0, {}]}}"
ABSENT = ", ".join(f"{{name: r{place}{'x' * 25}, replicas: 2}}" for place in range(4000))
LONG = "x" * 230_000

TOLD = {
    "36,000 missing indices": (
        SHARED.format(ENTRY.format(",".join(map(str, range(1, 36_000))))),
        PROBLEM,
        "missing on this node: 1, 2, 3, 4, 5, 6, 7, 8 and 35,991 more",
    ),
    "8,000 aliases of a missing UUID": (
        SHARED.format(ENTRY.format(f"&a {UUID}," + ",".join(["*a"] * 8000))),
        PROBLEM,
        f"missing on this node: {UUID}",
    ),
    "4,000 absent resources": (
        SHARED.format(f"{ENTRY.format('1:0')}, {ABSENT}"),
        NOTICE,
        "and 3,992 more",
    ),
}
"""Configurations that are used: three replicas, and a message and the end of its reason."""

REFUSED = {
    "a long prefix of annotations": (f"flags: {{plugin: {{cdiAnnotationPrefix: {LONG}}}}}", "4095"),
    "a long path": (f"flags: {{nvidiaDevRoot: {LONG}}}", "4095"),
    "a long index": (SHARED.format(ENTRY.format("9" * 230_000)), "4095"),
    "a hang in a millisecond": ("health: {hangAfter: 1ms}", "3s"),
    "endless polling": ("health: {pollInterval: 0.001ms}", "100ms"),
    "endless scans": ("health: {rescanInterval: 0.001ms}", "100ms"),
}
"""Configurations that are refused, and the bound that the error names."""


async def goes_on(running: Service, node: Kubelet, path: Path, pids: dict[str, int]) -> None:
    """Assert that the service has all its processes, and takes the next configuration."""
    write(path, SHARED.format("{name: gpu, replicas: 5}"))
    await node.until(lambda k: k.healthy(GPU) == 5)
    assert (running.process.returncode, running.pids()) == (None, pids)


async def shows(running: Service, end: str) -> bool:
    """Return whether a problem or a notice in /status has this *end*."""
    shown = json.loads((await running.get("/status"))[1])["node"]
    texts = [problem["text"] for problem in shown["problems"]] + shown["notices"]
    return any(text.endswith(end) for text in texts)


def write(path: Path, text: str) -> None:
    """Replace the configuration file in one step."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(("text", "message", "end"), TOLD.values(), ids=TOLD)
def test_a_long_list_is_told_in_short(folder: Path, text: str, message: str, end: str) -> None:
    """At a reload and at a start, a text names eight devices or resources of thousands."""

    async def story() -> None:
        path = folder / "config.yaml"
        options = (f"--config-file={path}", "--fail-on-init-error=false")
        path.write_text("version: v1\n")
        async with kubelet(folder) as node, service(folder, *options, node={"gpus": [{}]}) as first:
            await first.ready()
            pids = first.pids()
            write(path, text)
            told = await first.logged(message)
            assert told["reason"].endswith(end)
            await node.until(lambda k: k.healthy(GPU) == 3)
            await until(lambda: shows(first, end), "the text in /status")
            await goes_on(first, node, path, pids)
        path.write_text(text)
        async with (
            kubelet(folder) as node,
            service(folder, *options, node={"gpus": [{}]}) as second,
        ):
            await node.until(lambda k: k.healthy(GPU) == 3)
            told = await second.logged(message)
            assert told["reason"].endswith(end)

    asyncio.run(story())


@pytest.mark.parametrize(("text", "bound"), REFUSED.values(), ids=REFUSED)
def test_what_is_over_its_bound_is_refused(folder: Path, text: str, bound: str) -> None:
    """At a reload the old configuration stays; at a start it is one line and exit code 2."""

    async def story() -> None:
        path = folder / "config.yaml"
        path.write_text("version: v1\n")
        options = (f"--config-file={path}",)
        async with kubelet(folder) as node, service(folder, *options, node={"gpus": [{}]}) as first:
            await first.ready()
            pids = first.pids()
            write(path, text)
            told = await first.logged(KEPT)
            assert (
                f"write at most {bound}" in told["reason"] or f"at least {bound}" in told["reason"]
            )
            await goes_on(first, node, path, pids)
        path.write_text(text)
        async with service(folder, *options, node={"gpus": [{}]}) as second:
            assert await second.ended() == 2
        (line,) = second.entries
        assert f"write at most {bound}" in line["message"] or f"at least {bound}" in line["message"]

    asyncio.run(story())


NAMES = {
    "1,200 long names": [b"%d-" % place + b"x" * 230 for place in range(1200)],
    "names that are not UTF-8": [b"bad\xff\xfe", b"\x1b[31m"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_names_in_a_folder_are_told_in_short(folder: Path, names: list[bytes]) -> None:
    """A label without a file is told with eight names, whatever the files are called."""
    files = folder / "files"
    files.mkdir()
    (files / "zero").write_text("version: v1\n")
    for name in names:
        Path(os.fsdecode(bytes(files) + b"/" + name)).write_text("")

    async def story() -> None:
        options = ("--node-name=node-1", f"--config-dir={files}", "--config-default=zero")
        async with (
            apiserver(labels={LABEL: "gone"}) as api,
            kubelet(folder) as node,
            service(
                folder, *options, node={"gpus": [{}]}, environment=api.kubeconfig(folder)
            ) as running,
        ):
            told = await running.logged(KEPT)
            assert "no file has that name; files: " in told["reason"]
            assert len(told["reason"]) < 1500
            await node.until(lambda k: k.healthy(GPU) == 1)
            await running.shows("gpu_sharing_config_last_reload_successful", 0)
            pids = running.pids()
            write(files / "gone", SHARED.format("{name: gpu, replicas: 2}"))
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert running.pids() == pids

    asyncio.run(story())


@pytest.mark.parametrize("value", ["x" * 300_000, "../../etc/passwd"])
def test_a_label_that_no_node_can_have_chooses_no_file(folder: Path, value: str) -> None:
    """A value that Kubernetes would not allow ends no process; the next label is used."""

    async def story() -> None:
        files = folder / "files"
        files.mkdir()
        (files / "one").write_text("version: v1\n")
        (files / "two").write_text(SHARED.format("{name: gpu, replicas: 2}"))
        options = ("--node-name=node-1", f"--config-dir={files}", "--config-default=one")
        async with (
            apiserver(labels={LABEL: value}) as api,
            kubelet(folder) as node,
            service(
                folder, *options, node={"gpus": [{}]}, environment=api.kubeconfig(folder)
            ) as running,
        ):
            await running.logged(
                "configuration not final yet: waiting for the node's label from the API server"
            )
            pid = running.pids()["cluster"]
            await api.label(LABEL, "two")
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert running.pids()["cluster"] == pid

    asyncio.run(story())
