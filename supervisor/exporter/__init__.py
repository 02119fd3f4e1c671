"""The exporter: HTTP for Prometheus, the probes and people, in a process of its own."""
