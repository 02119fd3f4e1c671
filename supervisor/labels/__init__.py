"""The labels of the node: what NVIDIA's GPU feature discovery calls the same thing, as values."""
