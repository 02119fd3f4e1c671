"""The supervisor: reads the configuration, forks the other processes and keeps them running."""
