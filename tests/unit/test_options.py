"""The options of `run` and how their texts are read."""

import pytest

from supervisor.options import OPTIONS, boolean

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


@pytest.mark.parametrize("text", TRUE)
def test_true(text: str) -> None:
    """True may be written in all the ways that a Go program takes."""
    assert boolean(text) is True


@pytest.mark.parametrize("text", FALSE)
def test_false(text: str) -> None:
    """False may be written in all the ways that a Go program takes."""
    assert boolean(text) is False


@pytest.mark.parametrize("text", ["", "yes", "no", "on", "tRUE", " true", "2"])
def test_neither(text: str) -> None:
    """Anything else is neither, rather than false."""
    with pytest.raises(ValueError, match=r"^write true or false$"):
        boolean(text)


def test_no_two_options_share_a_name() -> None:
    """Each flag, each environment variable and each place in the settings is one option's."""
    for names in (
        [flag for option in OPTIONS for flag in option.flags],
        [name for option in OPTIONS for name in option.environment],
        [option.path for option in OPTIONS],
    ):
        assert sorted(set(names)) == sorted(names)


def test_the_names_that_manifests_use() -> None:
    """These flags and variables are in users' manifests: they must never change."""
    assert {flag: option.environment for option in OPTIONS for flag in option.flags} == {
        "--config-file": ("CONFIG_FILE",),
        "--resource-config": ("NVIDIA_DRIVER_RESOURCE_CONFIG",),
        "--fail-on-init-error": ("FAIL_ON_INIT_ERROR",),
        "--driver-root-ctr-path": ("DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"),
        "--container-driver-root": ("DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"),
        "--device-plugin-path": ("DEVICE_PLUGIN_PATH",),
        "--kubelet-socket": ("KUBELET_SOCKET",),
        "--runtime-dir": ("GPU_SHARING_RUNTIME_DIR",),
        "--metrics-address": ("METRICS_ADDRESS",),
        "--simulated-node": (),
        "--log-format": ("LOG_FORMAT",),
        "--log-level": ("LOG_LEVEL",),
    }
