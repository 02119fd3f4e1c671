"""The command line, and the commands beside `run`: what they ask and print."""
