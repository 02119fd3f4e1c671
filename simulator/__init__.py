"""A simulated node: GPUs, their faults and a kubelet, where there is no GPU."""
