"""Where nvidia-ctk fails as a whole, the specification is made of what it writes for each GPU."""

from tests.fakes.toolkit import LIMIT, Host, received
from tests.unit.builders import gpu, gpu_uuid, mig_gpu, mig_uuid


def test_the_devices_of_a_failing_gpu_stay(host: Host) -> None:
    """When the tool fails for a GPU that the old file names, the GPU keeps its device there."""
    host.gpus = (gpu(0), gpu(1))
    first, second = gpu_uuid(0), gpu_uuid(1)
    host.write(devices=f"{first},{second}")
    kinds, [entry] = host.write(devices=f"{first},{second}", broken=second, driver="590.1")

    assert kinds == ["k8s.device-plugin.nvidia.com/gpu"]
    assert host.names() == {first, second}
    assert host.paths()[0] == "/usr/lib/libcuda.so.590.1"
    assert entry["errors"] == {second: f"failed to get {second}: GPU is lost"}


def test_an_index_of_a_failing_gpu_goes(host: Host) -> None:
    """An index in the old file may mean another GPU by now, so it is not kept."""
    host.gpus = (gpu(0), gpu(1))
    host.change(device_names="index")
    devices = f"{gpu_uuid(0)}=0,{gpu_uuid(1)}=1"
    host.write(devices=devices)
    host.write(devices=devices, broken=gpu_uuid(0))

    assert host.names() == {"1"}


def test_a_gpu_that_hangs_the_tool_takes_no_other(host: Host, hung: int) -> None:
    """When nvidia-ctk hangs for one GPU, the others are written within the total time limit."""
    host.gpus = (gpu(0), gpu(1))
    first, second = gpu_uuid(0), gpu_uuid(1)
    _, [entry] = host.write(limit=LIMIT, total=4 * LIMIT, devices=f"{first},{second}", hangs=first)

    assert received(hung).startswith(b"hanging\n")
    assert host.names() == {second}
    assert "killed after" in entry["errors"][first]


def test_instances_are_asked_for_with_their_gpu(host: Host) -> None:
    """Where the tool fails, it is asked for the MIG instances of each GPU, by UUID."""
    host.gpus = (mig_gpu(0, "1g.10gb", "1g.10gb"), gpu(1))
    host.change(device_names="index")
    instances = [mig_uuid(0, 0), mig_uuid(0, 1)]
    devices = f"{instances[0]}=0:0,{instances[1]}=0:1,{gpu_uuid(1)}=1"
    host.write(devices=devices, broken=gpu_uuid(1))

    assert host.asked() == [[], instances, [gpu_uuid(1)]]
    assert host.names() == {"0:0", "0:1"}
