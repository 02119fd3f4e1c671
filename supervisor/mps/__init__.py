"""The tree that keeps the MPS daemons: one for each device that is shared by MPS."""
