"""What a container gets to use MPS: the socket folder of one daemon, shared memory, and limits."""

from collections.abc import Sequence

from proto import deviceplugin_pb2 as api
from proto.mps import MpsShare, pipe_folder, shm_folder
from workers.devices import Replica

ALL_THREADS = 100
"""Percent."""


def refusal(replicas: Sequence[Replica]) -> str:
    """Return why a container cannot get these *replicas* together; empty: it can.

    A container has one folder of an MPS daemon, and each device has a daemon of its own.
    """
    shares = [replica.mps for replica in replicas if replica.mps]
    if not shares or len(replicas) == 1:
        return ""
    if any(share.single for share in shares):
        return (
            "it is shared by MPS, and failRequestsGreaterThanOne allows 1 per container; request 1"
        )
    if len({replica.uuid for replica in replicas}) > 1:
        return (
            "they are not all of one device, and a container can use MPS on one device only; "
            "request fewer"
        )
    return ""


def add(
    response: api.ContainerAllocateResponse, resource: str, root: str, replicas: Sequence[Replica]
) -> None:
    """Add to *response* what makes the container a client of its device's MPS daemon, if any.

    *replicas* are not refused; *root* is the folder of the daemons on the host. The paths in the
    container are those of NVIDIA's plugin.
    """
    share = replicas[0].mps if replicas else None
    if share is None:
        return
    pipe = f"/mps/{resource}/pipe"
    response.envs["CUDA_MPS_PIPE_DIRECTORY"] = pipe
    response.mounts.add(host_path=pipe_folder(root, replicas[0].uuid), container_path=pipe)
    response.mounts.add(host_path=shm_folder(root), container_path="/dev/shm")  # noqa: S108
    if not share.single:
        response.envs.update(limits(share, len({replica.id for replica in replicas})))


def limits(share: MpsShare, replicas: int) -> dict[str, str]:
    """Return the variables that limit a client to as much as *replicas* come to.

    A client's limit never raises the daemon's. The memory limit names device 0, the only one that
    a client of the daemon has: a limit for any other device would remove all of them.
    """
    found = {}
    if share.threads is not None:
        percent = min(ALL_THREADS, share.threads * replicas)
        found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
    if share.memory_mib is not None:
        found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={share.memory_mib * replicas}M"
    return found
