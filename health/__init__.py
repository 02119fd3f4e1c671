"""The health monitor: the only process that calls the NVIDIA driver."""
