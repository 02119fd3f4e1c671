"""The settings for Xids, in the command `xids` and in the whole service."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from proto.messages import XidCount
from tests.fakes import commands
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
UUID = "GPU-00000000-0000-0000-0000-000000000000"
NODE: dict[str, object] = {"gpus": [{"uuid": UUID, "recoveryAction": False}, {}]}
"""The driver asks for no reset after the first of these, so only the settings can make it fatal."""


def xids(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run `xids` and return its exit code, stdout and stderr."""
    done = commands.run("xids", *arguments, environment=environment)
    return done.returncode, done.stdout, done.stderr


def test_the_json_table() -> None:
    """`xids --json` lists every Xid of the catalogue by number, with exactly these fields."""
    code, out, err = xids("--json")
    table = json.loads(out)

    assert (code, err) == (0, "")
    assert [row["xid"] for row in table] == list(range(1, 173))
    assert all(list(row) == ["xid", "name", "action", "fatal", "followsDriver"] for row in table)
    assert table[78] == {
        "xid": 79,
        "name": "GPU has fallen off the bus",
        "action": "reboot",
        "fatal": True,
        "followsDriver": False,
    }


def test_the_table_with_settings(folder: Path) -> None:
    """`xids` applies the configuration file and the environment; it reports a malformed entry on
    stderr.
    """
    (folder / "config.yaml").write_text("health: {xids: {94: fatal, 555: ignore}}")
    environment = {"DP_DISABLE_HEALTHCHECKS": "79,oops", "DP_ENABLE_HEALTHCHECKS": "13"}
    code, out, err = xids("--json", f"--config-file={folder}/config.yaml", **environment)
    fatal = {row["xid"]: row["fatal"] for row in json.loads(out)}

    assert (code, err) == (
        0,
        'ignored "oops" in DP_DISABLE_HEALTHCHECKS: write Xids or all\n',
    )
    assert (fatal[94], fatal[555], fatal[79], fatal[13]) == (True, False, False, True)


def test_only_enabled_xids_are_fatal() -> None:
    """With all Xids disabled and 79 enabled, exactly Xid 79 is fatal."""
    environment = {"DP_DISABLE_HEALTHCHECKS": "all", "DP_ENABLE_HEALTHCHECKS": "79"}
    _, out, _ = xids("--json", **environment)

    assert [row["xid"] for row in json.loads(out) if row["fatal"]] == [79]


def test_the_printed_table() -> None:
    """Without --json, `xids` prints a table that says which setting decided."""
    code, out, err = xids(DP_DISABLE_HEALTHCHECKS="79")
    header, *lines = out.splitlines()

    assert (code, err) == (0, "")
    assert header.split() == ["xid", "name", "action", "fatal", "set", "by"]
    assert lines[78].split()[-3:] == ["reboot", "no", "DP_DISABLE_HEALTHCHECKS"]


@pytest.mark.parametrize("text", ["health: {xids: {79: deadly}}", "health: {xids: {x: fatal}}"])
def test_a_bad_rule_is_refused(folder: Path, text: str) -> None:
    """A bad rule ends the command with exit code 2 and one line."""
    (folder / "config.yaml").write_text(text)
    code, out, err = xids(f"--config-file={folder}/config.yaml")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "health.xids: " in err


@pytest.mark.parametrize(
    ("xid", "rules", "environment", "healthy"),
    [
        (94, "", {}, 2),
        (94, "health: {xids: {94: fatal}}", {}, 1),
        (79, "health: {xids: {79: ignore}}", {}, 2),
        (79, "", {"DP_DISABLE_HEALTHCHECKS": "79"}, 2),
        (79, "", {"DP_DISABLE_HEALTHCHECKS": "all", "DP_ENABLE_HEALTHCHECKS": "119"}, 2),
        (13, "", {"DP_ENABLE_HEALTHCHECKS": "13"}, 1),
        (94, "health: {xids: {94: fatal}}", {"DP_DISABLE_HEALTHCHECKS": "94"}, 2),
    ],
)
def test_the_service_obeys(
    folder: Path, xid: int, rules: str, environment: dict[str, str], healthy: int
) -> None:
    """An Xid makes its GPU Unhealthy only if the settings say so, and is always counted."""
    (folder / "config.yaml").write_text(rules)

    async def scenario() -> None:
        options = (f"--config-file={folder}/config.yaml",)
        async with (
            kubelet(folder) as node,
            service(folder, *options, node=NODE, environment=environment) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            await running.logged("watching GPUs for Xid events")
            running.node.xid(0, xid)
            fatal = "the driver reported a fatal Xid"
            told = fatal if healthy == 1 else "the driver reported an Xid that is not fatal"
            seen = await running.logged(told, xid=xid, uuid=UUID, fatal=healthy == 1)
            assert seen["name"]
            assert seen["action"]
            (count,) = (await running.publishes(epoch=1)).xids
            assert count == XidCount(UUID, xid, 1, last=count.last)
            assert time.time() - 60 < count.last <= time.time()
            # This later Xid is always fatal: when it is in the list, the first one would be too.
            running.node.xid(1, 119)
            await node.until(lambda k: k.healthy(GPU) == healthy - 1)
            assert node.resources[GPU].healthy() == [UUID] * (healthy - 1)

    asyncio.run(scenario())


def test_a_malformed_entry_is_logged_once(folder: Path) -> None:
    """A malformed entry is logged once at the start, and the service still runs."""

    async def scenario() -> None:
        environment = {"DP_DISABLE_HEALTHCHECKS": "79,oops"}
        async with (
            kubelet(folder) as node,
            service(folder, node=NODE, environment=environment) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            told = 'ignored "oops" in DP_DISABLE_HEALTHCHECKS: write Xids or all'
            await running.logged("ignored a setting", setting=told)
            assert running.count("ignored a setting") == 1

    asyncio.run(scenario())
