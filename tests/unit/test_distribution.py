"""What the flat package names demand of the environment."""

from importlib import metadata
from pathlib import Path

from supervisor.version import VERSION

OURS = {"supervisor", "workers", "health", "proto", "simulator"}


def test_no_other_distribution_provides_our_names() -> None:
    """PyPI has a supervisor and a proto of its own, which would take our place."""
    intruders = {
        distribution.metadata["Name"]
        for distribution in metadata.distributions()
        for path in distribution.files or ()
        if path.parts[0] in OURS and distribution.metadata["Name"] != "gpu-sharing-plugin"
    }

    assert intruders == set()


def test_the_version_is_the_distributions() -> None:
    """What the service tells of itself is the version under which it is installed."""
    assert metadata.version("gpu-sharing-plugin") == VERSION


def test_the_locks_agree() -> None:
    """What `make test` adds to `make simulate` changes nothing of it, so that is what is tested."""
    service, build, development = (
        {line for line in Path(name).read_text().splitlines() if "==" in line}
        for name in ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
    )

    assert service
    assert service | build <= development
