"""The meaning of settings' values."""

import pytest

from supervisor.compose import endpoint
from supervisor.config.durations import SampleInterval, Seconds, SecondsOrNever
from supervisor.config.settings import load


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":0", ("", 0)),
        ("0.0.0.0:9450", ("0.0.0.0", 9450)),  # noqa: S104
        ("[::1]:65535", ("::1", 65535)),
        ("node.example:80", ("node.example", 80)),
    ],
)
def test_metrics_address(text: str, address: tuple[str, int]) -> None:
    """A metrics address is a host, empty or IPv6 in brackets too, and a port."""
    assert load({"service.metricsAddress": text}, {}).address == address


@pytest.mark.parametrize(
    ("flags", "socket"),
    [
        ({"service.devicePluginPath": "/plugins"}, "/plugins/kubelet.sock"),
        ({"service.devicePluginPath": "/plugins", "service.kubeletSocket": "/k"}, "/k"),
        ({"service.kubeletSocket": ""}, ""),
    ],
    ids=["in the plugin folder", "elsewhere", "none"],
)
def test_registration_socket(flags: dict[str, str], socket: str) -> None:
    """The kubelet's socket is in the plugin folder, or as --kubelet-socket says, or none."""
    assert load(flags, {}).service.registration_socket == socket


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2.5", 2.5),
        (7, 7.0),
        (0.5, 0.5),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    """A duration is a number with a unit, or a number of seconds."""
    assert Seconds.read(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), ("0", 0.0), ("0s", 0.0), ("0.0m", 0.0), (0.0, 0.0), ("100ms", 0.1), ("60s", 60.0)],
)
def test_durations_that_may_be_never(value: object, seconds: float) -> None:
    """Where a duration may be never, 0 means never, with a unit or without."""
    found = SecondsOrNever.read(value)
    assert isinstance(found, SecondsOrNever)
    assert found == pytest.approx(seconds)


@pytest.mark.parametrize("value", [False, True, "", "never", "-0", "00:00"])
def test_no_durations_and_not_never(value: object) -> None:
    """A truth value, a word and a time of day are neither a duration nor never."""
    with pytest.raises(ValueError, match=r"5m or 2\.5, or 0 for never$"):
        SecondsOrNever.read(value)


@pytest.mark.parametrize(("value", "seconds"), [(0, 0.0), ("0s", 0.0), ("1000ms", 1.0), (5, 5.0)])
def test_sample_intervals(value: object, seconds: float) -> None:
    """An interval between samples is at least a second, or never."""
    assert SampleInterval.read(value) == pytest.approx(seconds)


def test_a_sample_interval_that_is_too_short() -> None:
    """More than one sample a second is refused, as nobody would see them all."""
    with pytest.raises(ValueError, match=r'"999ms" is too short; write at least 1s$'):
        SampleInterval.read("999ms")


def test_an_endpoint_is_named_after_its_resource() -> None:
    """A worker's socket is named after its resource, without the domain."""
    assert endpoint("nvidia.com/gpu.shared", "/plugins") == "nvidia-gpu.shared.sock"


def test_a_socket_path_over_107_bytes_is_shortened() -> None:
    """A socket's name is shortened only over 107 bytes, and still differs by resource."""
    fitting = "/" + "d" * (107 - len("//nvidia-gpu.sock"))
    assert endpoint("nvidia.com/gpu", fitting) == "nvidia-gpu.sock"
    short = endpoint("nvidia.com/gpu", fitting + "d")
    assert short == "nvidia-b81425dbf37c.sock"
    assert short != endpoint("nvidia.com/cpu", fitting + "d")


def test_the_limit_of_a_socket_path_counts_bytes() -> None:
    """The limit of a socket's path counts bytes, not letters."""
    folder = "/" + "ü" * 46
    assert len(f"{folder}/nvidia-gpu.sock") < 107
    assert endpoint("nvidia.com/gpu", folder) != "nvidia-gpu.sock"
