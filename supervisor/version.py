"""Which version of the distribution this is, for whoever tells; the build reads it here too."""

VERSION = "0.1.0"
