"""The image's HEALTHCHECK: exit with 0 if the service in this container is live.

It asks as `status` does, over a unix socket: TLS, client certificates and a token do not matter.
"""

import os
import sys
from pathlib import Path

from proto.control import ExitCode
from supervisor.commands.ask import AskError
from supervisor.commands.fetch import fetch
from supervisor.commands.printing import complain
from supervisor.config.service_settings import ServiceSettings

VARIABLE = "GPU_SHARING_RUNTIME_DIR"


def main() -> int:
    """Ask for /livez, print why it fails, and return the exit code."""
    folder = os.environ.get(VARIABLE) or ServiceSettings().runtime_dir
    try:
        fetch(Path(folder), "/livez")
    except AskError as error:
        complain(str(error))  # `docker inspect` shows it
        return ExitCode.FAILED
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
