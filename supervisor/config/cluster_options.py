"""The options of `run` that are about the cluster: Events, the condition, files by label."""

from supervisor.config.choose_file import Fallback
from supervisor.config.option import Option, boolean, one_of, several

CLUSTER = (
    Option(
        ("--config-dir",),
        "service.configDir",
        "folder of configuration files, of which the node's label, --config-default or a fallback "
        "chooses one",
        ("CONFIG_DIR",),
    ),
    Option(
        ("--config-label",),
        "service.configLabel",
        "label of the node whose value names the file in --config-dir; followed with --node-name",
        ("CONFIG_LABEL",),
    ),
    Option(
        ("--config-default",),
        "service.configDefault",
        "the file in --config-dir for a node without the label",
        ("CONFIG_DEFAULT",),
    ),
    Option(
        ("--config-fallback-strategies",),
        "service.configFallbackStrategies",
        "without label and default, the first of these that fits: named (the file called default), "
        "single (the only file), empty (built-in defaults)",
        ("CONFIG_FALLBACK_STRATEGIES",),
        several(one_of(*Fallback)),
        repeatable=True,
    ),
    Option(
        ("--node-name",),
        "service.nodeName",
        "this node's name in the cluster",
        ("NODE_NAME",),
    ),
    Option(
        ("--node-events",),
        "service.nodeEvents",
        "tell of fatal Xids and of GPUs that become Unhealthy or Healthy by Events of the node",
        ("NODE_EVENTS",),
        boolean,
        switch=True,
    ),
    Option(
        ("--node-condition",),
        "service.nodeCondition",
        "keep the node's condition XidCriticalError",
        ("NODE_CONDITION",),
        boolean,
        switch=True,
    ),
)
"""Told of and chosen in the cluster; see docs/cluster.md."""
