"""Measures everything that needs a GPU in one command of at most nine minutes: ``python -m experiments.gpu.run``.

Each part is a process with its own time limit and its own file of results, the most valuable first, so that no failure
costs more than its own part. If the command is repeated, only what is missing is measured. ``--device cpu --tiny`` runs
everything in small on a CPU, to try the scripts themselves; its figures mean nothing.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ddpm_lightning.utils.atomic import read_json
from experiments.common import fill
from experiments.gpu.tables import tables

HERE = Path(__file__).parent


class Part(NamedTuple):
    """A part of the measurements.

    Attributes:
        name: Name of its module and of its file of results.
        seconds: Time limit.
        least: Seconds without which it is not begun.
    """

    name: str
    seconds: float
    least: float = 10.0


PARTS = (
    Part("tests", 150),
    Part("roofline", 20),
    Part("training", 110),
    Part("inference", 90),
    Part("loader", 25),
    Part("trainings", 400, 60),
)


def run_part(part: Part, arguments: Sequence[str], seconds: float) -> str:
    """Runs a part, and returns how it ended."""
    command = [
        sys.executable,
        "-m",
        f"experiments.gpu.{part.name}",
        *arguments,
        "--seconds",
        f"{seconds:.0f}",
    ]
    process = subprocess.Popen(command, cwd=HERE.parents[1], start_new_session=True)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s; what was measured is kept"
    finally:
        if process.poll() is None:  # the limit, or Ctrl-C: neither leaves processes behind
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "done" if code == 0 else f"failed with exit code {code}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all parts; returns 1 if one failed or is incomplete."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu.run", description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of README.md and results/")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit of all parts together")
    parser.add_argument("--parts", nargs="*", choices=[part.name for part in PARTS], help="only these")
    parser.add_argument("--tiny", action="store_true", help="everything in small")
    parser.add_argument("--tables", action="store_true", help="only update the tables from the results")
    chosen = parser.parse_args(arguments)
    output = chosen.output.resolve()
    ends = time.monotonic() + 60 * chosen.minutes
    states = {}
    for part in () if chosen.tables else PARTS:
        if chosen.parts and part.name not in chosen.parts:
            continue
        file = output / "results" / f"{part.name}.json"
        seconds = min(part.seconds * (10 if chosen.tiny else 1), ends - time.monotonic())
        if seconds < part.least:
            states[part.name] = "left out, no time"
            continue
        print(f"== {part.name}, at most {seconds:.0f} s", flush=True)
        given = ["--output", str(file), "--device", chosen.device, *["--tiny"] * chosen.tiny]
        states[part.name] = run_part(part, given, seconds)
        if states[part.name] == "done" and not read_json(file).get("complete"):
            states[part.name] = "incomplete; repeat the command"
    readme = output / "README.md"
    if not readme.is_file():
        readme.write_text((HERE / "README.md").read_text("utf-8"), "utf-8")
    fill(readme, tables(output / "results"))
    for name, state in states.items():
        print(f"{name:<10} {state}")
    return int(any(state != "done" for state in states.values()))


if __name__ == "__main__":
    sys.exit(main())
