"""Resource names, and the patterns that choose them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.file_schema import Pattern
from supervisor.config.naming import by_pattern, full, matches, of_profile

LONGEST = "n" * 52

BAD = (
    "is not a resource name; after nvidia.com/ write lower-case letters, digits, '-' and '.', "
    "and begin and end with a letter or digit"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpu", "nvidia.com/gpu"),
        ("nvidia.com/gpu", "nvidia.com/gpu"),
        ("gpu.shared", "nvidia.com/gpu.shared"),
        ("mig-1g.10gb.me", "nvidia.com/mig-1g.10gb.me"),
        ("1", "nvidia.com/1"),
        ("a--b", "nvidia.com/a--b"),
        (LONGEST, f"nvidia.com/{LONGEST}"),
    ],
)
def test_a_resource_name_gets_its_domain(name: str, expected: str) -> None:
    """A resource name gets the prefix nvidia.com/ when it is missing."""
    assert full(name) == expected


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("GPU", f'"nvidia.com/GPU" {BAD}'),
        ("", f'"nvidia.com/" {BAD}'),
        ("nvidia.com/", f'"nvidia.com/" {BAD}'),
        ("-gpu", f'"nvidia.com/-gpu" {BAD}'),
        ("gpu-", f'"nvidia.com/gpu-" {BAD}'),
        (".gpu", f'"nvidia.com/.gpu" {BAD}'),
        ("gpu.", f'"nvidia.com/gpu." {BAD}'),
        ("gpu..shared", f'"nvidia.com/gpu..shared" {BAD}'),
        ("gpu.-shared", f'"nvidia.com/gpu.-shared" {BAD}'),
        ("g_u", f'"nvidia.com/g_u" {BAD}'),
        ("1g.10gb+me", f'"nvidia.com/1g.10gb+me" {BAD}'),
        ("a gpu", f'"nvidia.com/a gpu" {BAD}'),
        ("gpü", f'"nvidia.com/gpü" {BAD}'),
        ("gpu\n", f'"nvidia.com/gpu\n" {BAD}'),
        ("example.com/gpu", f'"nvidia.com/example.com/gpu" {BAD}'),
        ("nvidia.com/nvidia.com/gpu", f'"nvidia.com/nvidia.com/gpu" {BAD}'),
        ("NVIDIA.com/gpu", f'"nvidia.com/NVIDIA.com/gpu" {BAD}'),
        (f"{LONGEST}n", f'"nvidia.com/{LONGEST}n" has 64 characters; write at most 63'),
        (f"nvidia.com/{LONGEST}n", f'"nvidia.com/{LONGEST}n" has 64 characters; write at most 63'),
    ],
)
def test_a_bad_resource_name(name: str, problem: str) -> None:
    """A resource name that Kubernetes does not allow, or that is too long, is refused."""
    with pytest.raises(ValueError, match="write") as error:
        full(name)
    assert str(error.value) == problem


H100 = "NVIDIA H100 80GB HBM3"

PATTERNS = {
    "all": ("*", H100, True),
    "all of nothing": ("*", "", True),
    "nothing of something": ("", H100, False),
    "the whole text": (H100, H100, True),
    "begins with": ("NVIDIA H100*", H100, True),
    "ends with": ("*HBM3", H100, True),
    "contains": ("*H100*", H100, True),
    "anchored at the beginning": ("H100*", H100, False),
    "anchored at the end": ("*H100", H100, False),
    "not in the middle alone": ("H100", H100, False),
    "two ends": ("NVIDIA*HBM3", H100, True),
    "an order": ("*HBM3*H100*", H100, False),
    "a star may stand for nothing": ("NVIDIA*H100", "NVIDIAH100", True),
    "two stars are one": ("**H100**", H100, True),
    "an end that is also the beginning": ("aba*aba", "aba", False),
    "case counts": ("*h100*", H100, False),
    "a dot is a dot": ("1g.10gb", "1gx10gb", False),
    "a plus is a plus": ("1g.10gb+me", "1g.10gb+me", True),
    "a plus repeats nothing": ("1g.10gb+me", "1g.10gbbbme", False),
    "a question mark is one": ("H10?", "H100", False),
    "brackets are brackets": ("H[12]00", "H100", False),
    "a backslash is one": ("H\\d00", "H100", False),
    "a line break": ("NVIDIA*HBM3", "NVIDIA\nHBM3", True),
    "nothing may follow": ("H100", "H100\n", False),
}


@pytest.mark.parametrize(("pattern", "text", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_patterns(pattern: str, text: str, expected: bool) -> None:  # noqa: FBT001 - a column
    """A pattern must match the whole text, and only `*` is special."""
    assert matches(pattern, text) is expected


@given(st.lists(st.text(string.printable.replace("*", ""), max_size=4), min_size=2, max_size=4))
def test_stars_match_any_text(parts: list[str]) -> None:
    """A pattern matches when its stars are replaced by any text."""
    assert matches("*".join(parts), "anything".join(parts))


@given(st.text(max_size=8).filter(lambda text: "*" not in text), st.text(max_size=8))
def test_a_pattern_without_star_matches_itself_alone(pattern: str, text: str) -> None:
    """A pattern without a star matches only the equal text."""
    assert matches(pattern, text) is (pattern == text)


@pytest.mark.parametrize(
    ("text", "name"),
    [(H100, "hopper"), ("NVIDIA A100-SXM4-40GB", "ampere"), ("Tesla T4", "other")],
)
def test_the_first_match_counts(text: str, name: str) -> None:
    """The first pattern that matches gives the name."""
    patterns = (Pattern("*H100*", "hopper"), Pattern("*A100*", "ampere"), Pattern("*", "other"))
    assert by_pattern(patterns, text) == name


def test_without_a_match_there_is_no_name() -> None:
    """A text that no pattern matches gets no name."""
    assert by_pattern((Pattern("*A100*", "ampere"),), H100) is None
    assert by_pattern((), H100) is None


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("1g.10gb", "nvidia.com/mig-1g.10gb"),
        ("7g.141gb", "nvidia.com/mig-7g.141gb"),
        ("1g.10gb+me", "nvidia.com/mig-1g.10gb.me"),
        ("1g.10gb+me.all", "nvidia.com/mig-1g.10gb.me.all"),
        ("1g.24gb+gfx", "nvidia.com/mig-1g.24gb.gfx"),
        ("1g.24gb+me+gfx", "nvidia.com/mig-1g.24gb.me.gfx"),
        ("1g.10gb-me", "nvidia.com/mig-1g.10gb-me"),
        ("1c.2g.10gb", "nvidia.com/mig-1c.2g.10gb"),
        ("1c.3g.40gb+me", "nvidia.com/mig-1c.3g.40gb.me"),
        ("1g.10gb+ME", "nvidia.com/mig-1g.10gb.me"),
        ("", "nvidia.com/mig-unknown"),
        ("1g.10gb+", "nvidia.com/mig-unknown"),
        ("1g 10gb", "nvidia.com/mig-unknown"),
        ("9" * 60, "nvidia.com/mig-unknown"),
    ],
)
def test_the_resource_of_a_profile(profile: str, name: str) -> None:
    """A MIG profile's resource is mig- and the profile with dots for plus signs, or unknown."""
    assert of_profile(profile) == name
