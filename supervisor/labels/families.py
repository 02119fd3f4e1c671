"""The architecture of a GPU, as NVIDIA's label names it, by its compute capability."""

BY_MAJOR = {
    1: "tesla",
    2: "fermi",
    3: "kepler",
    5: "maxwell",
    6: "pascal",
    7: "volta",
    8: "ampere",
    9: "hopper",
    10: "blackwell",
    11: "blackwell",
    12: "blackwell",
    13: "rubin",
}
"""Source: NVIDIA's GPU feature discovery v0.20; 11, Jetson Thor, by NVIDIA's list of CUDA GPUs."""

TURING, ADA = (7, 5), (8, 9)
"""The first compute capabilities that are no longer Volta, and no longer Ampere."""


def family(major: int, minor: int) -> str:
    """Return the name of the architecture; `undefined` if it is too new or too old to be known."""
    if major == TURING[0] and (major, minor) >= TURING:
        return "turing"
    if major == ADA[0] and (major, minor) >= ADA:
        return "ada-lovelace"
    return BY_MAJOR.get(major, "undefined")
