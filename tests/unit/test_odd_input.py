"""Input that is odd, but means something."""

from pathlib import Path

import pytest

from proto.worker import DeviceListStrategy, Handout, ResourcePlan
from supervisor.config.settings import SettingsError, load
from supervisor.config.sharing import Share, choose
from workers import devices, response


def shares_of(tmp_path: Path, text: str) -> tuple[Share, ...]:
    """Return how the configuration in *text* shares GPUs."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load({"service.configFile": str(path)}, {}).shares["nvidia.com/gpu"]


SHARED = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: %s}]}}"


def test_a_mig_index_needs_no_quotes(tmp_path: Path) -> None:
    """YAML 1.1 would read 1:0 as sixty; it is the first instance of the second GPU."""
    assert shares_of(tmp_path, SHARED % "[1:0, 0:1, 2]")[0].devices == ("1:0", "0:1", "2")


def test_a_key_without_a_value_in_a_list_counts_as_left_out(tmp_path: Path) -> None:
    """What is commented out in an entry of a list is as if it was not there."""
    assert shares_of(tmp_path, SHARED % "")[0].devices is None


def test_an_empty_version_is_v1(tmp_path: Path) -> None:
    """NVIDIA's plugin takes a file without a version for v1, and so do we."""
    path = tmp_path / "config.yaml"
    path.write_text('version: ""')

    assert load({"service.configFile": str(path)}, {}).service.config_file == str(path)


def test_a_number_without_end_is_refused_by_name() -> None:
    """A count of five thousand digits is refused as any other that is too high."""
    with pytest.raises(SettingsError, match="write 1 to"):
        load({"service.resourceConfig": f"gpu:a:{'9' * 5000}"}, {})


def test_a_variable_of_blanks_counts_as_unset() -> None:
    """What looks empty is."""
    assert load({}, {"GPU_SHARING_RUNTIME_DIR": " ", "LOG_LEVEL": "\n"}) == load({}, {})


def test_a_count_is_of_all_devices() -> None:
    """Devices that an earlier entry took are there, and not missing."""

    class One:
        names = frozenset({"0"})

    assert choose(Share("nvidia.com/a", 2, devices=1), [], [One()]) == ([], [])


def test_a_channel_without_a_specification_is_not_named() -> None:
    """A CDI name that nothing resolves would keep the container from starting."""
    plan = ResourcePlan("nvidia.com/gpu", ())
    handout = Handout(list_strategies=(DeviceListStrategy.CDI_CRI,), imex_channels=(0,))
    node = "/dev/nvidia-caps-imex-channels/channel0"
    for kinds, expected in (
        ((), ["k8s.device-plugin.nvidia.com/imex-channel=0"]),
        ((handout.cdi_kind,), []),
    ):
        view = devices.View(plan.resource, {}, {}, nodes=(node,), cdi_kinds=kinds)
        names = [device.name for device in response.allocate(view, handout, []).cdi_devices]
        assert names == expected
