"""The reader of the output may end at any time; the work continues, with its own exit code."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import os, subprocess, sys
from rich.console import Console
from ddpm_lightning.cli import streams
streams.outlive_readers()
console = Console()
for number in range(5000):
    print("line", number)
    console.print("rich", number)
    print("error", number, file=sys.stderr)
subprocess.run([sys.executable, "-c", "print('child ' * 20000)"], check=True)
with open("done", "w") as file:
    file.write(f"{file.fileno()} {len(streams.lost)}")
"""


@pytest.mark.parametrize(
    ("closed", "way"), [("1", "head -c 5"), ("12", "head -c 5"), ("12", ">&-"), ("1", "> /dev/full")]
)
def test_a_process_outlives_its_readers(tmp_path, closed, way):
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    program = f"'{sys.executable}' program.py"
    if way.startswith("head"):
        streams = {"1": "2>/dev/null", "2": "2>&1 >/dev/null", "12": "2>&1"}[closed]
        script = f"set -o pipefail; {program} {streams} | {way} > /dev/null"
    else:
        script = program + "".join(f" {number}{way}" for number in closed)
    answer = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0 and "Traceback" not in answer.stderr and "Broken" not in answer.stderr
    descriptor, lost = (tmp_path / "done").read_text().split()
    assert int(descriptor) > 2, "a file has the number of a stream that others write to"
    assert int(lost) == (len(closed) if "full" in way else 0)
