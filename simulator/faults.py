"""Changes of a live node that several drills make, as pure functions."""

from typing import TypeVar

from msgspec.structs import replace

from simulator.node import Live, SimulatedGpu

Value = TypeVar("Value")


def with_value(values: dict[str, Value], gpu: SimulatedGpu, value: Value) -> dict[str, Value]:
    """Return *values* with the GPU's *value*, or without the GPU if the value is 0 or empty."""
    others = {uuid: other for uuid, other in values.items() if uuid != gpu.uuid}
    return {**others, gpu.uuid: value} if value else others


def answering(live: Live, gpu: SimulatedGpu) -> Live:
    """Return the node after what ends without a reset has ended on a GPU."""
    return replace(
        live,
        lost=live.lost - {gpu.uuid},
        hung=live.hung - {gpu.uuid},
        slow=with_value(live.slow, gpu, 0),
        failing=with_value(live.failing, gpu, {}),
        mps_faults=live.mps_faults - {gpu.uuid},
        apart=with_value(live.apart, gpu, 0),
        unlicensed=live.unlicensed - {gpu.uuid},
        grey=with_value(live.grey, gpu, ()),
    )


def asking(live: Live, gpu: SimulatedGpu, action: int) -> Live:
    """Return the node after the driver asks for a recovery action of a GPU."""
    return replace(live, actions={**live.actions, gpu.uuid: action})
