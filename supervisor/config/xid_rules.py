"""`health.xids`: what each Xid does."""

import enum

from health.xid_policy import CODE


class XidRule(enum.StrEnum):
    """What an Xid does to a GPU."""

    FATAL = "fatal"
    """The GPU becomes Unhealthy."""
    IGNORE = "ignore"
    """The Xid is only counted and logged."""


class XidRules(dict[int, XidRule]):
    """`health.xids`: rules by Xid; the Xid is a number in YAML and a string in JSON."""

    @classmethod
    def read(cls, value: object) -> "XidRules":
        """Return the rules in *value*; ValueError or TypeError if it has none."""
        if not isinstance(value, dict):
            raise TypeError("write Xids with fatal or ignore, such as {79: fatal}")
        rules = cls()
        for key, rule in value.items():
            if not CODE.fullmatch(str(key)):
                raise ValueError(f'"{key}" is not an Xid; write a number such as 79')
            if rule not in list(XidRule):
                raise ValueError(f'{key}: "{rule}" is not allowed; write {" or ".join(XidRule)}')
            rules[int(key)] = XidRule(rule)
        return rules
