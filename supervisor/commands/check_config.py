"""The command `check-config`: check all settings of `run`, and print those in effect."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from health import xid_policy
from proto.control import ExitCode
from supervisor.commands.printing import complain, say
from supervisor.config import read_file
from supervisor.config.choose_file import Wish, listing
from supervisor.config.file_schema import Portion, plain
from supervisor.config.refusal import SettingsError
from supervisor.config.service_settings import configuration_file
from supervisor.config.settings import Settings, load
from supervisor.config.sharing import MpsLimits
from supervisor.mps_shares import threads_of, unused

STDIN = "-"
"""The name of the configuration file that is read from standard input."""


def main(
    flags: Mapping[str, str], environment: Mapping[str, str], compose: Callable[[Settings], object]
) -> int:
    """Print the settings in effect, or all errors; return the exit code.

    The last line on stderr says that they are accepted.

    *compose* raises SettingsError for what only the start of the service would refuse.
    """
    errors: dict[str, None] = {}
    found = []
    given = _standard_input(flags, environment)
    for wish in _wishes(flags, environment):
        try:
            found.append(load(flags, environment, wish, given))
            compose(found[-1])
        except SettingsError as error:
            errors[str(error)] = None
    for notice in dict.fromkeys(notice for settings in found for notice in settings.notices):
        complain(f"ignored: {notice}")
    for line in errors:
        complain(line)
    if errors:
        return ExitCode.USAGE
    answer = _answer(found, environment)
    say(*json.dumps(answer, indent=2).split("\n"))
    # For people, who read it behind the JSON; scripts have the exit code.
    files = answer["files"]["checked"]
    complain(f"accepted: {', '.join(files) or 'the settings; there is no configuration file'}")
    return ExitCode.DONE


def _standard_input(flags: Mapping[str, str], environment: Mapping[str, str]) -> bytes | None:
    named = flags.get("service.configFile", environment.get("CONFIG_FILE"))
    return sys.stdin.buffer.read(read_file.LIMIT + 1) if named == STDIN else None


def _wishes(flags: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Wish]:
    """Yield what is wished for at a start, and then each file of the folder, if there is one."""
    yield Wish()
    folder = flags.get("service.configDir", environment.get("CONFIG_DIR", "").strip())
    try:
        names = listing(folder) if folder else []
    except (OSError, ValueError):
        return  # the first wish is refused for it
    yield from map(Wish, names)


def _answer(found: list[Settings], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in effect at the start; *found* begins with them."""
    first = found[0]
    files = [configuration_file(settings.service, settings.choice) for settings in found]
    variables = (xid_policy.DISABLE, xid_policy.ENABLE)
    return {
        "config": plain(first.configuration),
        "service": msgspec.to_builtins(first.service),
        "environment": {name: environment[name] for name in variables if environment.get(name)},
        "files": {"inEffect": files[0] or None, "checked": sorted({*files} - {""})},
        "sources": first.sources,
    } | _mps(first)


def _mps(settings: Settings) -> dict[str, Any]:
    """Return what a replica of each resource of MPS comes to; nothing without MPS."""
    shares = [
        {
            "resource": resource,
            "name": share.name,
            "replicas": share.replicas,
            "memory": _memory(share.mps, share.replicas),
            "threads": _percent(threads_of(share.mps, share.replicas)),
            "threadsUnused": _percent(unused(share.mps, share.replicas)),
            "limitedBy": "the daemon" if share.mps.single else "the container's variables",
        }
        for resource, several in settings.shares.items()
        for share in several
        if share.mps
    ]
    return {"mps": shares} if shares else {}


def _memory(limits: MpsLimits, replicas: int) -> str:
    match limits.memory:
        case Portion.SHARE:
            return f"1/{replicas} of the device"
        case Portion.NONE:
            return "no limit"
        case mib:
            return f"{mib} MiB"


def _percent(number: int | None) -> str:
    return "no limit" if number is None else f"{number} %"
