"""What the supervisor tells the monitor of the Container Device Interface."""

import msgspec


class CdiSettings(msgspec.Struct, frozen=True):
    """How the Container Device Interface specifications are generated."""

    spec_folder: str
    vendor: str
    """The part of the CDI kind before the slash."""
    device_class: str
    """The part behind it."""
    device_names: str
    """`uuid` or `index`."""
    hook_path: str
    """The hook's binary on the host, as the specification names it."""
    driver_root: str
    """On the host."""
    dev_root: str
    """On the host."""
    container_driver_root: str
    """Where the driver's root is mounted for us; `/` where we run beside it."""
    feature_flags: tuple[str, ...] = ()
    disabled_hooks: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    """Further specifications: any of gdrcopy, gds, mofed, imex."""
