"""The prober process: the operator's own command that tests free GPUs."""
