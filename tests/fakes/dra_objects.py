"""The objects of DRA on a stand-in for the API server."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DRA = "/apis/resource.k8s.io/v1/"


@dataclass
class DraObjects:
    """What the server lists; tests may change it."""

    slices: list[Json] = field(default_factory=list)
    """The ResourceSlices of all nodes."""
    classes: list[Json] = field(default_factory=list)
    """The DeviceClasses."""
    served: bool = True
    """Whether the server knows DRA."""

    def answer(self, path: str, query: dict[str, str]) -> Json | None:
        """List objects, ResourceSlices only of the node that is asked for; None: not found."""
        key, _, node = query.get("fieldSelector", "").partition("=")
        match path.removeprefix(DRA):
            case "resourceslices" if self.served and key == "spec.nodeName":
                items = [each for each in self.slices if each["spec"]["nodeName"] == node]
            case "deviceclasses" if self.served:
                items = self.classes
            case _:
                return None
        return {"metadata": {}, "items": items}
