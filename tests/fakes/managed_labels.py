"""Labels of an object as the API server keeps them for server-side apply."""

from typing import Any

Json = dict[str, Any]


class ManagedLabels:
    """Labels, and which manager owns which of them."""

    def __init__(self, values: dict[str, str]) -> None:
        """Begin with these values, which nobody owns."""
        self.values = values
        self.owners: dict[str, set[str]] = {}

    def set(self, key: str, value: str | None, manager: str = "kubectl-label") -> None:
        """Set or remove a label as an update does: the key then belongs to *manager* alone."""
        for keys in self.owners.values():
            keys.discard(key)
        self.values.pop(key, None)
        if value is not None:
            self.values[key] = value
            self.owners.setdefault(manager, set()).add(key)

    def apply(self, manager: str, wanted: dict[str, str], *, force: bool) -> list[Json]:
        """Apply *wanted*; return the causes of the conflict if there is one."""
        before = self.owners.get(manager, set())
        others = {k: m for m, keys in self.owners.items() if m != manager for k in keys}
        lost = {k for k, v in wanted.items() if k in others and self.values.get(k) != v}
        if lost and not force:
            return [_cause(key, others[key]) for key in sorted(lost)]
        for key in before - wanted.keys() - others.keys():
            self.values.pop(key, None)
        for keys in self.owners.values():
            keys.difference_update(lost)
        self.values.update(wanted)
        self.owners[manager] = set(wanted)
        return []

    def fields(self) -> list[Json]:
        """Return the object's `managedFields`."""
        return [
            {
                "manager": manager,
                "operation": "Apply",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {f"f:{key}": {} for key in keys}}},
            }
            for manager, keys in self.owners.items()
        ]


def _cause(key: str, manager: str) -> Json:
    return {
        "reason": "FieldManagerConflict",
        "message": f'conflict with "{manager}"',
        "field": f".metadata.labels.{key}",
    }
