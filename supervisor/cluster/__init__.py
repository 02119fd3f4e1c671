"""The cluster process: the only process that uses the Kubernetes API."""
