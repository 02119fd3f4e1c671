"""Faults of the kubelet's pod resources API: it answers with lists that are no lists of pods."""

from collections.abc import AsyncIterator
from random import Random

from supervisor.exporter.pod_list import LONGEST_LIST
from tests.chaos.kinds import fault
from tests.chaos.of_kubelet import aside
from tests.chaos.world import World
from tests.fakes.pod_lists import HOSTILE, pod_lists

READ = 2.0
"""Seconds until the exporter has read or refused a list: it asks after each Allocate."""

UP = "gpu_sharing_pod_resources_up"


@fault("hostile list of pods", "kubelet", promise=READ, back=READ, weight=3)
async def hostile_list(world: World, dice: Random) -> AsyncIterator[None]:
    """Answer with a hostile list, over the limit or just within it; a new kubelet ends it."""
    make = HOSTILE[dice.choice(sorted(HOSTILE))]
    answer = make(dice.choice((LONGEST_LIST - 99, 20 << 20)))
    async with pod_lists(aside(world), answer) as lists:
        aside(world).replace(world.kubelet.pod_resources)
        world.happens()
        await world.until(lambda: lists.calls, "call for the list of pods")
        await world.shows(UP, 0.0)
        yield
    await world.kubelet.stop()
    await world.kubelet.start()
    world.happens()
    await world.shows(UP, 1.0)
