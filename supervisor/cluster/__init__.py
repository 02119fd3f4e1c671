"""The cluster process: the only one that talks to the Kubernetes API."""
