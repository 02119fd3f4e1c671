"""The installed distribution, its version, and its locked dependencies."""

from importlib import metadata
from pathlib import Path

from supervisor.version import VERSION

OURS = {"supervisor", "workers", "health", "proto", "simulator"}


def test_no_other_distribution_has_our_packages() -> None:
    """No installed distribution has a package named like ours, such as PyPI's supervisor."""
    intruders = {
        distribution.metadata["Name"]
        for distribution in metadata.distributions()
        for path in distribution.files or ()
        if path.parts[0] in OURS and distribution.metadata["Name"] != "gpu-sharing-plugin"
    }

    assert intruders == set()


def test_the_version_is_that_of_the_distribution() -> None:
    """The service's version is the version of the installed distribution."""
    assert metadata.version("gpu-sharing-plugin") == VERSION


def test_the_locks_agree() -> None:
    """The development lock has all of the service's pins, so tests use the same versions."""
    service, build, development = (
        {line for line in Path(name).read_text().splitlines() if "==" in line}
        for name in ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
    )

    assert service
    assert service | build <= development
