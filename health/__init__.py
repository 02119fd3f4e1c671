"""The health monitor: the only process that talks to the NVIDIA driver."""
