"""How a process calls a gRPC server on a unix socket of its node."""

from collections.abc import Sequence

CLIENT_OPTIONS: Sequence[tuple[str, str | int]] = (
    # The default authority is the percent-encoded path of the socket: strict servers refuse it.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    # gRPC would share connections between the channels of a process. A call to a new kubelet would
    # then wait for the connection to the old kubelet, or for gRPC's own delay after a failure.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Options of each channel; the names are from gRPC's `grpc/impl/channel_arg_names.h`."""
