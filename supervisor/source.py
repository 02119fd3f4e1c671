"""Where the supervisor gets its service from: flags, environment and files."""

from collections.abc import Callable, Mapping

from supervisor.config import encoded
from supervisor.config.choose_file import Wish
from supervisor.config.refusal import refusing
from supervisor.config.settings import Settings, load
from supervisor.state import Service, ServiceSource


def source(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    composer: Callable[[Settings], Service],
) -> ServiceSource:
    """Return the source of the service that *composer* makes of flags, environment and files."""

    def read(wish: Wish) -> bytes:
        settings = load(flags, environment, wish)
        composer(settings)  # to refuse here what cannot be composed
        return encoded.encode(settings)

    def composed(data: bytes) -> Service:
        with refusing("these settings"):
            return composer(encoded.decode(data))

    return ServiceSource(read, composed)
