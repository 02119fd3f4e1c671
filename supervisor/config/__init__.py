"""Configuration: flags, environment and file, read once into frozen settings."""
