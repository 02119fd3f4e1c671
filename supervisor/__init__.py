"""The supervisor: reads the configuration, starts the other processes and keeps them running."""
