"""The command `labels --remove`: remove our labels from where the service writes them."""

import asyncio
from pathlib import Path

from proto.control import ExitCode
from proto.labels import LabelOutput, LabelSettings
from supervisor.cluster.apiserver import ApiServer
from supervisor.cluster.label_outputs import output
from supervisor.config.refusal import SettingsError
from supervisor.labels import feature_file
from supervisor.labels.writer import OutputError


def main(settings: LabelSettings, node: str) -> tuple[str, ExitCode]:
    """Remove the labels from the output that *settings* name.

    Return what was done, or why that is not possible, in one line, and the exit code.
    """
    if settings.output is LabelOutput.OFF:
        raise SettingsError(
            "cannot remove labels: say where they are, with --node-labels as for `run`"
        )
    try:
        there, removed = _remove(settings, node)
    except OSError as error:
        why = feature_file.trouble(settings.file, error)
        return f"cannot remove the node's labels: {why}", ExitCode.FAILED
    except OutputError as error:
        return f"cannot remove the node's labels: {error}", ExitCode.FAILED
    done = f"removed {there}" if removed else f"nothing to remove, already gone: {there}"
    return done, ExitCode.DONE


def _remove(settings: LabelSettings, node: str) -> tuple[str, bool]:
    if settings.output is LabelOutput.FILE:
        return f'the file "{settings.file}"', _remove_file(Path(settings.file))
    return asyncio.run(_remove_from_server(settings, node))


async def _remove_from_server(settings: LabelSettings, node: str) -> tuple[str, bool]:
    api = ApiServer(node)
    place = output(api, settings, node)
    try:
        return place.name, await place.remove()
    finally:
        await api.close()


def _remove_file(path: Path) -> bool:
    try:
        return feature_file.remove(path)
    except FileNotFoundError:  # not even the folder
        return False
