"""The settings as bytes: what the supervisor gets is what the file says."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.compose import compose
from supervisor.config import encoded
from supervisor.config.settings import Settings, load

FILES = {
    "no file": "",
    "sharing": """
sharing: {timeSlicing: {resources: [
  {name: gpu, replicas: 2, devices: [0, "1:0"]}, {name: gpu, replicas: 3, rename: big, devices: 4},
]}}
""",
    "MPS": """
sharing: {mps: {onMig: true, failRequestsGreaterThanOne: false, resources: [
  {name: gpu, replicas: 2, memoryLimit: 4096, threads: none}, {name: mig-1g.10gb, replicas: 3},
]}}
""",
    "times": "health: {pollInterval: 1.2345678901s, hangAfter: 168h}",
    "Xids": "health: {xids: {79: ignore, 31: fatal}, exitWithoutAccess: 0}",
    "strategies": "flags: {plugin: {deviceListStrategy: [envvar, cdi-annotations]}}",
    "one strategy": "flags: {plugin: {deviceListStrategy: volume-mounts}}",
    "patterns": 'resources: {gpus: [{pattern: "*H100*", name: h100}]}',
}
ENVIRONMENT = {"DP_DISABLE_HEALTHCHECKS": "79,all", "DP_ENABLE_HEALTHCHECKS": "48,nonsense"}


def read(path: Path, text: str) -> Settings:
    """Return the settings of a file with this *text*, and of a simulated node."""
    path.write_text(text)
    node = path.with_name("node.yaml")
    node.write_text("gpus: [{}, {mig: [1g.10gb]}]\nlinks: [{between: [0, 1], path: PIX}]\n")
    return load({"service.configFile": str(path), "service.simulatedNode": str(node)}, ENVIRONMENT)


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_decoding_gives_back_the_settings(tmp_path: Path, text: str) -> None:
    """Every value, and the type of every time, arrives as it was sent."""
    settings = read(tmp_path / "config.yaml", text)
    there = encoded.decode(encoded.encode(settings))
    assert there == replace(settings, sources={})
    assert there.fingerprint() == settings.fingerprint()
    health, expected = there.configuration.health, settings.configuration.health
    assert [type(health.poll_interval), str(health.hang_after)] == [
        type(expected.poll_interval),
        str(expected.hang_after),
    ]
    assert compose(there).configuration_hash == compose(settings).configuration_hash


def test_what_belongs_to_another_program_is_left_out(tmp_path: Path) -> None:
    """`flags.gfd` may contain what has no bytes; the notice that it is ignored arrives."""
    text = "flags: {gfd: {day: 2001-01-01, several: !!set {c}}}"
    there = encoded.decode(encoded.encode(read(tmp_path / "config.yaml", text)))
    assert there.configuration.flags.gfd == {}
    assert any("flags.gfd has no effect" in notice for notice in there.notices)
