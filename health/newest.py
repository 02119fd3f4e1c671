"""What the newest check of each GPU says beside its health: recovery action and vGPU licence."""

from collections.abc import Mapping

from loguru import logger

from health.condition import Look
from proto.monitor import LicenceRule


class Newest:
    """Keeps both, and logs which virtual GPUs lose their licence or get one."""

    def __init__(self, rule: LicenceRule) -> None:
        """Say what *rule* does with a virtual GPU without a licence."""
        # Otherwise, the line about the health of the device tells it.
        self._logs = rule is LicenceRule.REPORT
        self.actions: dict[str, int | None] = {}
        """The recovery action that the driver asks for, by the UUID of the GPU."""
        self.licensed: dict[str, bool | None] = {}
        """Whether it has a licence; None: unknown, or it needs none."""

    def take(self, looks: Mapping[str, Look]) -> None:
        """Take checks into account."""
        for uuid, look in looks.items():
            self.actions[uuid] = look.action
            before, now = self.licensed.get(uuid), look.ready.licensed
            self.licensed[uuid] = now
            if self._logs and now is False and before is not False:
                logger.warning("a virtual GPU has no licence", uuid=uuid)
            elif self._logs and now and before is False:
                logger.info("a virtual GPU has its licence now", uuid=uuid)
