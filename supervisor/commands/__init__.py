"""The command line, and the commands other than `run`."""
