"""The plan with each MIG strategy."""

import pytest
from msgspec.structs import replace

from health import cdi_spec
from proto.advertising import MigStrategy
from proto.messages import Gpu
from proto.problem import Problem, ProblemKind
from supervisor.config.file_schema import Pattern
from supervisor.plan import Plan, Rules, plan
from tests.unit.builders import gpu, inventory, mig_gpu

NONE, SINGLE, MIXED = MigStrategy.NONE, MigStrategy.SINGLE, MigStrategy.MIXED

NODES: dict[str, tuple[MigStrategy, tuple[Gpu, ...], dict[str, list[str]]]] = {
    "none: in MIG mode": (NONE, (mig_gpu(0, "1g.10gb"), gpu(1)), {"gpu": ["0", "1"]}),
    "none: in MIG mode without instance": (NONE, (mig_gpu(0), gpu(1)), {"gpu": ["0", "1"]}),
    "single: one GPU": (
        SINGLE,
        (mig_gpu(0, "1g.10gb", "1g.10gb"),),
        {"gpu": ["0:0", "0:1"]},
    ),
    "single: several GPUs": (
        SINGLE,
        (mig_gpu(0, "3g.40gb", "3g.40gb"), mig_gpu(1, "3g.40gb")),
        {"gpu": ["0:0", "0:1", "1:0"]},
    ),
    "single: more compute instances": (
        SINGLE,
        (mig_gpu(0, "1c.2g.20gb", "1c.2g.20gb"),),
        {"gpu": ["0:0", "0:1"]},
    ),
    "mixed: profiles": (
        MIXED,
        (mig_gpu(0, "3g.40gb", "1g.10gb", "1g.10gb"), gpu(1), mig_gpu(2, "1g.10gb")),
        {"gpu": ["1"], "mig-1g.10gb": ["0:1", "0:2", "2:0"], "mig-3g.40gb": ["0:0"]},
    ),
    "mixed: with media engines": (
        MIXED,
        (mig_gpu(0, "1g.10gb+me", "1g.10gb+me.all", "1g.10gb"),),
        {"mig-1g.10gb": ["0:2"], "mig-1g.10gb.me": ["0:0"], "mig-1g.10gb.me.all": ["0:1"]},
    ),
    "mixed: with graphics": (
        MIXED,
        (mig_gpu(0, "1g.24gb+gfx", "1g.24gb-me"),),
        {"mig-1g.24gb.gfx": ["0:0"], "mig-1g.24gb-me": ["0:1"]},
    ),
    "mixed: more compute instances": (
        MIXED,
        (mig_gpu(0, "1c.2g.10gb", "2g.10gb", "1c.2g.10gb"),),
        {"mig-1c.2g.10gb": ["0:0", "0:2"], "mig-2g.10gb": ["0:1"]},
    ),
    "mixed: all whole": (MIXED, (gpu(0), gpu(1)), {"gpu": ["0", "1"]}),
}


def indices(found: Plan) -> dict[str, list[str]]:
    """Return the indices of advertised devices, by resource without its domain."""
    return {
        planned.resource.removeprefix("nvidia.com/"): [device.index for device in planned.devices]
        for planned in found.resources
    }


@pytest.mark.parametrize(("strategy", "gpus", "expected"), NODES.values(), ids=NODES)
def test_strategies(
    strategy: MigStrategy, gpus: tuple[Gpu, ...], expected: dict[str, list[str]]
) -> None:
    """With none a GPU in MIG mode is whole; single lists instances as gpu, mixed by profile."""
    found = plan(Rules(mig=strategy), inventory(*gpus))
    assert indices(found) == expected
    assert found.problems == ()


def uneven(shown: str) -> tuple[Problem, ...]:
    """Return the problem of a node whose MIG instances, as *shown*, are not uniform."""
    text = (
        f'cannot use MIG strategy "single": it needs one MIG profile on all GPUs, but found '
        f"{shown}; create the same MIG instances on every GPU, or set the MIG strategy to mixed"
    )
    return (Problem(ProblemKind.MIG_NOT_UNIFORM, text),)


UNEVEN: dict[str, tuple[tuple[Gpu, ...], str]] = {
    "two profiles on a GPU": ((mig_gpu(0, "3g.40gb", "1g.10gb"),), "GPU 0: 1g.10gb, 3g.40gb"),
    "two profiles on two GPUs": (
        (mig_gpu(0, "1g.10gb"), mig_gpu(1, "1g.20gb")),
        "GPU 0: 1g.10gb; GPU 1: 1g.20gb",
    ),
    "profiles that differ in media engines": (
        (mig_gpu(0, "1g.10gb", "1g.10gb+me"),),
        "GPU 0: 1g.10gb, 1g.10gb+me",
    ),
    "beside a whole GPU": (
        (mig_gpu(0, "1g.10gb"), gpu(1)),
        "GPU 0: 1g.10gb; GPU 1: whole GPU",
    ),
    "a GPU without instances": (
        (mig_gpu(0, "1g.10gb"), mig_gpu(1)),
        "GPU 0: 1g.10gb; GPU 1: none",
    ),
    "no instance anywhere": ((mig_gpu(0), mig_gpu(1)), "GPU 0: none; GPU 1: none"),
    "no instance beside a whole GPU": ((mig_gpu(0), gpu(1)), "GPU 0: none; GPU 1: whole GPU"),
}


@pytest.mark.parametrize(("gpus", "shown"), UNEVEN.values(), ids=UNEVEN)
def test_a_node_that_single_cannot_serve(gpus: tuple[Gpu, ...], shown: str) -> None:
    """With single, a node with different MIG profiles advertises nothing, with a problem."""
    assert plan(Rules(mig=SINGLE), inventory(*gpus)) == Plan((), uneven(shown))


@pytest.mark.parametrize(
    ("gpus", "text", "expected"),
    [
        (
            (mig_gpu(0), mig_gpu(1, "1g.10gb"), gpu(2)),
            "GPU 0",
            {"gpu": ["2"], "mig-1g.10gb": ["1:0"]},
        ),
        ((mig_gpu(0), gpu(1), mig_gpu(2)), "GPU 0, 2", {"gpu": ["1"]}),
        ((mig_gpu(0),), "GPU 0", {}),
    ],
    ids=["one", "two", "all"],
)
def test_mixed_advertises_the_other_gpus(
    gpus: tuple[Gpu, ...], text: str, expected: dict[str, list[str]]
) -> None:
    """With mixed, a GPU in MIG mode without instances is a problem; others are advertised."""
    found = plan(Rules(mig=MIXED), inventory(*gpus))
    text = f"{text}: MIG mode is on, but there is no MIG instance; create one"
    problem = Problem(ProblemKind.MIG_EMPTY, text)
    assert (indices(found), found.problems) == (expected, (problem,))


@pytest.mark.parametrize("strategy", [MIXED, SINGLE])
def test_instances_that_the_container_toolkit_does_not_know(strategy: MigStrategy) -> None:
    """On Tegra the toolkit knows GPUs by index only: instances are not advertised, other GPUs are,
    and the problem says what to do. Without a MIG strategy, the GPU is handed out whole.
    """
    thor = replace(mig_gpu(0, "1g.10gb"), integrated=True, toolkit_id="0")
    card = replace(mig_gpu(1, "1g.10gb"), toolkit_id="1")
    node = inventory(thor, card, gpu(2))
    found = plan(Rules(mig=strategy), node)
    text = (
        "GPU 0, 1: MIG mode is on, but on this platform the container toolkit knows no MIG "
        "instances; switch MIG mode off, or use the MIG strategy none"
    )
    problem = Problem(ProblemKind.MIG_UNSUPPORTED, text)
    assert (indices(found), found.problems) == ({"gpu": ["2"]}, (problem,))
    assert (problem.fatal, indices(plan(Rules(mig=NONE), node))) == (
        False,
        {"gpu": ["0", "1", "2"]},
    )
    assert cdi_spec.wanted([thor], "index", whole=False)[0].names == frozenset()


def test_instances_of_single_can_be_named() -> None:
    """With single, patterns of profiles name the MIG instances."""
    rules = Rules(mig=SINGLE, profiles=(Pattern("1g.*", "small"),), gpus=(Pattern("*", "whole"),))
    assert indices(plan(rules, inventory(mig_gpu(0, "1g.10gb")))) == {"small": ["0:0"]}


def test_with_none_a_gpu_in_mig_mode_is_named_by_its_model() -> None:
    """With none, patterns of models name a GPU in MIG mode, and patterns of profiles do not."""
    rules = Rules(mig=NONE, profiles=(Pattern("*", "small"),), gpus=(Pattern("*H100*", "h100"),))
    assert indices(plan(rules, inventory(mig_gpu(0, "1g.10gb")))) == {"h100": ["0"]}


def test_instances_of_a_gpu_not_in_mig_mode_are_ignored() -> None:
    """MIG instances of a GPU that is not in MIG mode are ignored."""
    odd = gpu(0, instances=mig_gpu(0, "1g.10gb").instances)
    for strategy in MigStrategy:
        assert indices(plan(Rules(mig=strategy), inventory(odd, gpu(1)))) == {"gpu": ["0", "1"]}
