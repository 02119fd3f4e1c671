"""How the node is: one report for /status, the page, the command `status` and the metrics."""
