"""The instruction counts of the hot functions: unlike times, they do not depend on the machine's
load.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.bench import hot
from tests.fakes import compiler
from tests.fakes.figures import FIGURES

BOUNDS = {
    "prefer 8 of 8000 replicas": 8_000_000,
    "prefer 8 of 16 GPUs": 460_000_000,
    "answer Allocate of 4 GPUs": 107_000,
    "encode a list of 800 devices": 12_000_000,
    "health of 8 GPUs with 56 instances": 1_280_000,
    "samples of 800 held replicas": 18_200_000,
}
"""1.6 times the count of CPython 3.11 on x86-64, so a function that doubles its count fails."""

COUNTING = Path(compiler.__file__).with_name("counting.c")
GUARD = 300
TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


@pytest.fixture
def counts(tmp_path: Path) -> Mapping[str, int]:
    """Run all functions under callgrind, which writes a file after each of them (see hot.py)."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("cannot count instructions: there is no valgrind (Debian: valgrind)")
    out, library = tmp_path / "out", tmp_path / "counting.so"
    compiler.build(library, COUNTING, "-shared", "-fPIC")
    callgrind = [valgrind, "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
    subprocess.run(
        [*callgrind, "--instr-atstart=no", sys.executable, "-m", "tests.bench.hot", str(library)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
        timeout=GUARD,
    )
    found = {name: _total(out.with_suffix(f".{i + 1}")) for i, name in enumerate(BOUNDS)}
    FIGURES.extend(f"instructions to {name}: {count:,}" for name, count in found.items())
    return found


def _total(path: Path) -> int:
    match = TOTALS.search(path.read_text())
    assert match, f"no count in {path}"
    return int(match[1])


def test_every_function_has_a_bound() -> None:
    """Every hot function has a bound, in the order in which the functions run."""
    assert [*BOUNDS] == [*hot.hot()]


def test_hot_functions_stay_within_their_bounds(counts: Mapping[str, int]) -> None:
    """Each function stays below its bound, and above a fifth of it: less means that something else
    was counted.

    This is one test because one callgrind run counts all functions.
    """
    beyond = {n: c for n, c in counts.items() if not BOUNDS[n] / 5 < c < BOUNDS[n]}
    assert not beyond
