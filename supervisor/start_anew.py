"""Replace the service by the small process that waits for a GPU."""

import os
import sys
from collections.abc import Mapping, Sequence

from supervisor.signals import hold_back

WITHOUT_GPU = "GPU_SHARING_WITHOUT_GPU"
"""The variable that tells `run` that the node has no GPU, as the monitor found out."""


def start_anew(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by the one that waits for a GPU: only so its memory is given back."""
    hold_back()
    command = [sys.executable, "-P", "-m", "supervisor", *arguments]
    os.execve(sys.executable, command, {**environment, WITHOUT_GPU: "yes"})  # noqa: S606
