"""The alerts and the dashboard use only metrics that the service exports."""

import asyncio
import re
from pathlib import Path

from tests.fakes.service import kubelet, service

DEPLOY = Path(__file__).parents[2] / "deploy"
ASKED = (
    "prometheus/rules.yaml",
    "prometheus/tests.yaml",
    "grafana/dashboard.json",
    "grafana/fleet.json",
)

PARTS = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
"""The suffixes that these types add to a metric's name in its series."""


def asked() -> set[str]:
    """Return the metric names in the alerts, their tests and the dashboard."""
    text = "".join((DEPLOY / name).read_text() for name in ASKED)
    return set(re.findall(r"\bgpu_sharing_\w+", text))


def shown(text: str) -> set[str]:
    """Return the names of the series that an exposition can contain, by its TYPE lines."""
    kinds = [line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE ")]
    return {name + part for name, kind in kinds for part in PARTS.get(kind, ("",))}


def test_every_metric_in_use_is_exported(folder: Path) -> None:
    """The alerts, their tests and the dashboard name no metric that the service does not export."""

    async def story() -> None:
        async with kubelet(folder), service(folder, node={"gpus": [{}]}) as running:
            await running.ready()
            _, text = await running.get("/metrics")
            assert asked() - shown(text) == set()

    asyncio.run(story())
