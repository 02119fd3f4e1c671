"""Publish how much of the node's GPUs is in use."""

from msgspec.structs import replace

from health.node import Node
from proto.bus import HealthPublisher
from proto.messages import UsageState


class UsageBus:
    """Publishes the newest samples of all GPUs."""

    def __init__(self, node: Node, publisher: HealthPublisher, interval: float, epoch: int) -> None:
        """Publish samples that are taken each *interval* seconds; 0: publish nothing."""
        self._node = node
        self._publisher = publisher
        self._published = UsageState(epoch=epoch, sequence=0, interval=interval)

    def publish_new(self, now: float) -> None:
        """Publish the samples if there are other ones than before."""
        if self._node.usage(now) != self._published.devices:
            self.publish(now)

    def publish(self, now: float) -> None:
        """Publish the samples, for a new subscriber."""
        if not self._published.interval:
            return
        sequence, devices = self._published.sequence + 1, self._node.usage(now)
        self._published = replace(self._published, sequence=sequence, devices=devices)
        self._publisher.publish(self._published)
