"""The workers: one process per resource name, which serves the kubelet over gRPC."""
