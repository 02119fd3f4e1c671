"""The options of `run`, and how their values are read."""

import pytest

from supervisor.config.option import boolean, number, one_of, several
from supervisor.config.options import OPTIONS

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


@pytest.mark.parametrize("text", TRUE)
def test_true(text: str) -> None:
    """True is accepted in all forms of Go's flags."""
    assert boolean(text) is True


@pytest.mark.parametrize("text", FALSE)
def test_false(text: str) -> None:
    """False is accepted in all forms of Go's flags."""
    assert boolean(text) is False


@pytest.mark.parametrize("text", ["", "yes", "no", "on", "tRUE", " true", "2"])
def test_neither_true_nor_false(text: str) -> None:
    """Any other text is refused, and does not count as false."""
    with pytest.raises(ValueError, match=r"^write true or false$"):
        boolean(text)


def test_no_two_options_share_a_name() -> None:
    """Each flag, environment variable and setting belongs to one option only."""
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
--node-taint NODE_TAINT
--dra-check DRA_CHECK
--node-labels NODE_LABELS
--node-labels-file NODE_LABELS_FILE GFD_OUTPUT_FILE
--node-labels-health NODE_LABELS_HEALTH
--node-labels-interval NODE_LABELS_INTERVAL GFD_SLEEP_INTERVAL
--machine-type-file MACHINE_TYPE_FILE GFD_MACHINE_TYPE_FILE
--pod-name POD_NAME
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
--mps-control-path MPS_CONTROL_PATH
--device-plugin-path DEVICE_PLUGIN_PATH
--kubelet-socket KUBELET_SOCKET
--runtime-dir GPU_SHARING_RUNTIME_DIR
--state-dir GPU_SHARING_STATE_DIR
--kernel-log GPU_SHARING_KERNEL_LOG
--metrics-address METRICS_ADDRESS
--metrics-tls-cert METRICS_TLS_CERT
--metrics-tls-key METRICS_TLS_KEY
--metrics-client-ca METRICS_CLIENT_CA
--metrics-token-file METRICS_TOKEN_FILE
--metrics-allowed-hosts METRICS_ALLOWED_HOSTS
--pod-resources-socket POD_RESOURCES_SOCKET
--pod-labels POD_LABELS
--pod-usage POD_USAGE
--simulated-node
--log-format LOG_FORMAT
--log-level LOG_LEVEL
"""


def test_the_names_that_manifests_use() -> None:
    """These flags and variables must never change, because users' manifests have them."""
    found = [" ".join((flag, *o.environment)) for o in OPTIONS for flag in o.flags]
    assert found == NAMES.split("\n")[1:-1]


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("12", 12), ("007", 7)], ids=["zero", "number", "leading zeros"]
)
def test_number(text: str, value: int) -> None:
    """A text of digits is a number."""
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "one", " 1", "1 ", "0x1"])
def test_no_number(text: str) -> None:
    """A text with anything but digits is refused as a number."""
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
def test_comma_separated_values(text: str, values: tuple[int, ...]) -> None:
    """Values are separated by commas and keep their order; blanks and empty values are ignored."""
    assert several(number)(text) == values


def test_a_list_with_one_bad_value_is_refused() -> None:
    """A list with one value that cannot be read is refused."""
    with pytest.raises(ValueError, match=r"^write a number$"):
        several(number)("1,x")


def test_allowed_values() -> None:
    """Only exactly the allowed texts are accepted."""
    parse = one_of("a", "b")
    assert (parse("a"), parse("b")) == ("a", "b")
    for text in ("", "A", "a ", "ab"):
        with pytest.raises(ValueError, match=r"^write a or b$"):
            parse(text)
