"""The state of the node: one report for /status, the page, the command `status`, the metrics."""
