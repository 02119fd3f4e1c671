"""The options of `run` and how their texts are read."""

import pytest

from supervisor.config.option import boolean, number, one_of, several
from supervisor.config.options import OPTIONS

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


NAMES = """
--config-file CONFIG_FILE
--config-dir CONFIG_DIR
--config-label CONFIG_LABEL
--config-default CONFIG_DEFAULT
--config-fallback-strategies CONFIG_FALLBACK_STRATEGIES
--node-name NODE_NAME
--node-events NODE_EVENTS
--node-condition NODE_CONDITION
--resource-config NVIDIA_DRIVER_RESOURCE_CONFIG
--fail-on-init-error FAIL_ON_INIT_ERROR
--driver-root-ctr-path DRIVER_ROOT_CTR_PATH CONTAINER_DRIVER_ROOT
--container-driver-root DRIVER_ROOT_CTR_PATH CONTAINER_DRIVER_ROOT
--driver-root NVIDIA_DRIVER_ROOT
--nvidia-driver-root NVIDIA_DRIVER_ROOT
--dev-root NVIDIA_DEV_ROOT
--nvidia-dev-root NVIDIA_DEV_ROOT
--mig-strategy MIG_STRATEGY
--device-list-strategy DEVICE_LIST_STRATEGY
--device-id-strategy DEVICE_ID_STRATEGY
--pass-device-specs PASS_DEVICE_SPECS
--shared-devices-allocation-policy SHARED_DEVICES_ALLOCATION_POLICY
--gdrcopy-enabled GDRCOPY_ENABLED
--gds-enabled GDS_ENABLED
--mofed-enabled MOFED_ENABLED
--imex-channel-ids IMEX_CHANNEL_IDS
--imex-required IMEX_REQUIRED
--nvidia-cdi-hook-path NVIDIA_CDI_HOOK_PATH NVIDIA_CTK_PATH
--nvidia-ctk-path NVIDIA_CDI_HOOK_PATH NVIDIA_CTK_PATH
--cdi-annotation-prefix CDI_ANNOTATION_PREFIX
--cdi-kind CDI_KIND
--cdi-spec-dir CDI_SPEC_DIR
--cdi-feature-flags CDI_FEATURE_FLAGS
--cdi-disable-hooks CDI_DISABLE_HOOKS
--device-discovery-strategy DEVICE_DISCOVERY_STRATEGY
--mps-root MPS_ROOT
--device-plugin-path DEVICE_PLUGIN_PATH
--kubelet-socket KUBELET_SOCKET
--runtime-dir GPU_SHARING_RUNTIME_DIR
--state-dir GPU_SHARING_STATE_DIR
--metrics-address METRICS_ADDRESS
--metrics-tls-cert METRICS_TLS_CERT
--metrics-tls-key METRICS_TLS_KEY
--metrics-client-ca METRICS_CLIENT_CA
--metrics-token-file METRICS_TOKEN_FILE
--pod-resources-socket POD_RESOURCES_SOCKET
--pod-labels POD_LABELS
--simulated-node
--log-format LOG_FORMAT
--log-level LOG_LEVEL
"""


def test_the_names_that_manifests_use() -> None:
    """These flags and variables are in users' manifests: they must never change."""
    found = [" ".join((flag, *o.environment)) for o in OPTIONS for flag in o.flags]
    assert found == NAMES.split("\n")[1:-1]


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("12", 12), ("007", 7)], ids=["zero", "number", "leading zeros"]
)
def test_number(text: str, value: int) -> None:
    """A number is made of digits alone."""
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "one", " 1", "1 ", "0x1"])
def test_no_number(text: str) -> None:
    """Anything beside digits makes no number."""
    with pytest.raises(ValueError, match=r"^write a number$"):
        number(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ()),
        (",", ()),
        ("1", (1,)),
        ("1,0,1", (1, 0, 1)),
        (" 1 , 2,, ", (1, 2)),
    ],
    ids=["nothing", "a comma", "one", "several", "blanks"],
)
def test_several(text: str, values: tuple[int, ...]) -> None:
    """Texts are separated by commas; blanks and empty ones do not matter, the order does."""
    assert several(number)(text) == values


def test_several_refuses_what_one_refuses() -> None:
    """One text that cannot be read spoils the list."""
    with pytest.raises(ValueError, match=r"^write a number$"):
        several(number)("1,x")


def test_one_of() -> None:
    """Of the allowed texts each stands for itself, exactly."""
    parse = one_of("a", "b")
    assert (parse("a"), parse("b")) == ("a", "b")
    for text in ("", "A", "a ", "ab"):
        with pytest.raises(ValueError, match=r"^write a or b$"):
            parse(text)
