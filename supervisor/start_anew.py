"""Replace the service by the small process that waits for a GPU."""

import importlib
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loguru import logger

from proto.cluster import ClusterSettings
from proto.host import die_with
from proto.labels import LabelSettings
from supervisor.child import Spec
from supervisor.signals import hold_back
from supervisor.title import set_title

WITHOUT_GPU = "GPU_SHARING_WITHOUT_GPU"
"""The variable that tells `run` that the node has no GPU, as the monitor found out."""


def start_anew(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by the one that waits for a GPU: only so its memory is given back."""
    hold_back()
    command = [sys.executable, "-P", "-m", "supervisor", *arguments]
    os.execve(sys.executable, command, {**environment, WITHOUT_GPU: "yes"})  # noqa: S606


def take_back(children: Iterable[Spec]) -> None:
    """Take back what the *children* of an earlier run told about GPUs that this node had.

    The API server may take long to answer, and its client takes memory: a process of its own asks
    it, and ends. It is forked, so this process must have no threads yet.
    """
    parent = os.getpid()
    for spec in children:
        match spec.settings:
            case LabelSettings(file=file):
                _remove_labels(file)
            case ClusterSettings() as told if told.condition or told.taint or told.labels:
                _fork(spec, parent)


def _remove_labels(file: str) -> None:
    feature_file = importlib.import_module("supervisor.labels.feature_file")
    try:
        feature_file.remove(Path(file))
    except FileNotFoundError:
        pass  # not even the folder
    except OSError as error:
        reason = feature_file.trouble(file, error)
        logger.warning("cannot remove the file with the node's labels", reason=reason)


def _fork(spec: Spec, parent: int) -> None:
    try:
        child = os.fork()
    except OSError as error:
        logger.error("cannot take back what the cluster was told", reason=str(error))
        return
    if not child:
        _withdraw(spec, parent)


def _withdraw(spec: Spec, parent: int) -> None:
    try:
        die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        set_title(spec.name)
        importlib.import_module("supervisor.cluster.withdrawal").main(spec.settings)
    except Exception as error:  # noqa: BLE001 - it must not go on as a second parent
        logger.error("cannot take back what the cluster was told", reason=repr(error))
    finally:
        os._exit(0)
