"""Unusual input that is valid."""

from pathlib import Path

import pytest

from proto.worker import DeviceListStrategy, Handout, PlannedDevice, ResourcePlan
from supervisor.config.refusal import SettingsError
from supervisor.config.settings import load
from supervisor.config.sharing import Among, Share, choose
from workers import devices, response


def shares_of(tmp_path: Path, text: str) -> tuple[Share, ...]:
    """Return the shares of GPUs in a configuration file with this *text*."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load({"service.configFile": str(path)}, {}).shares["nvidia.com/gpu"]


SHARED = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: %s}]}}"


def test_a_mig_index_needs_no_quotes(tmp_path: Path) -> None:
    """An unquoted 1:0 is the first MIG instance of GPU 1, not sixty as in YAML 1.1."""
    assert shares_of(tmp_path, SHARED % "[1:0, 0:1, 2]")[0].devices == ("1:0", "0:1", "2")


def test_a_key_without_a_value_in_a_list_counts_as_left_out(tmp_path: Path) -> None:
    """A key without a value in a list's entry counts as left out."""
    assert shares_of(tmp_path, SHARED % "")[0].devices is None


def test_an_empty_version_is_v1(tmp_path: Path) -> None:
    """An empty version is accepted as v1, as NVIDIA's plugin does."""
    path = tmp_path / "config.yaml"
    path.write_text('version: ""')

    assert load({"service.configFile": str(path)}, {}).service.config_file == str(path)


def test_a_huge_number_is_refused() -> None:
    """A number of replicas with 5000 digits is refused like any other that is too high."""
    with pytest.raises(SettingsError, match="write 1 to"):
        load({"service.resourceConfig": f"gpu:a:{'9' * 5000}"}, {})


def test_a_variable_of_blanks_counts_as_unset() -> None:
    """An environment variable with only blanks counts as unset."""
    assert load({}, {"GPU_SHARING_RUNTIME_DIR": " ", "LOG_LEVEL": "\n"}) == load({}, {})


def test_a_count_includes_devices_of_earlier_entries() -> None:
    """A device that an earlier entry shares is not reported as missing."""

    class One:
        names = frozenset({"0"})

    assert choose(Share("nvidia.com/a", 2, devices=1), [], Among.of([One()])) == ([], [])


def test_thousands_of_shares_read_the_names_of_devices_once() -> None:
    """A file full of shares of one resource does not hold up the supervisor for seconds."""
    reads = []

    class One:
        @property
        def names(self) -> frozenset[str]:
            reads.append(self)
            return frozenset({str(len(reads))})

    devices = [One(), One()]
    among = Among.of(devices)
    for number in range(100):
        for which in (("2",), ("300", str(number)), 5):
            choose(Share("nvidia.com/a", 2, which), devices, among)
    assert choose(Share("nvidia.com/a", 2, ("2", "3")), devices, among) == ([devices[1]], ["3"])
    assert reads == devices


def test_a_channel_without_a_specification_is_not_named() -> None:
    """An IMEX channel without a CDI specification is left out: the container could not start."""
    plan = ResourcePlan("nvidia.com/gpu", (PlannedDevice("A", "A", 1),))
    handout = Handout(list_strategies=(DeviceListStrategy.CDI_CRI,), imex_channels=(0,))
    node = "/dev/nvidia-caps-imex-channels/channel0"
    for kinds, expected in (
        ((), ["gpu=A", "imex-channel=0"]),
        ((handout.cdi_kind,), ["gpu=A"]),
    ):
        known = devices.replicas(plan)
        view = devices.View(plan.resource, known, {}, nodes=(node,), cdi_kinds=kinds)
        named = response.allocate(view, handout, ["A"]).cdi_devices
        assert [device.name.partition("/")[2] for device in named] == expected
