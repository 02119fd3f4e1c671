"""What the alerts and the dashboard ask for is what the service shows."""

import asyncio
import re
from pathlib import Path

from tests.fakes.service import kubelet, service

DEPLOY = Path(__file__).parents[2] / "deploy"
ASKED = ("prometheus/rules.yaml", "prometheus/tests.yaml", "grafana/dashboard.json")

PARTS = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
"""The names of the samples of these types, behind that of the metric."""


def asked() -> set[str]:
    """Return the names of the series that the files name."""
    text = "".join((DEPLOY / name).read_text() for name in ASKED)
    return set(re.findall(r"\bgpu_sharing_\w+", text))


def shown(text: str) -> set[str]:
    """Return the names of the series that can be in an exposition, as its TYPE lines say."""
    kinds = [line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE ")]
    return {name + part for name, kind in kinds for part in PARTS.get(kind, ("",))}


def test_every_metric_that_is_asked_for_is_shown(folder: Path) -> None:
    """No alert, none of its tests and no panel names a metric that the service does not have."""

    async def story() -> None:
        async with kubelet(folder), service(folder, node={"gpus": [{}]}) as running:
            await running.ready()
            _, text = await running.get("/metrics")
            assert asked() - shown(text) == set()

    asyncio.run(story())
