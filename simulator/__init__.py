"""A simulated node for machines without GPUs: GPUs, their faults, and a kubelet."""
