"""The contracts between processes: the kubelet's protobufs, control messages, the bus."""
