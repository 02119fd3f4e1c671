"""What the exporter tells the cluster process, by way of the supervisor."""

import msgspec


class Holdings(msgspec.Struct, frozen=True, tag=True):
    """Report of the exporter, and order to the cluster process: containers hold these devices.

    Sent again every few seconds, so a new process soon knows it.
    """

    uuids: tuple[str, ...] | None
    """GPUs and MIG instances; None: unknown, as the kubelet does not answer."""
