"""The built wheel, installed elsewhere, used from an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, folder: Path, **environment: str) -> str:
    answer = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=280
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_the_wheel_works_outside_of_the_checkout(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    run(*build, folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    ]
    run(*install, str(wheel), folder=tmp_path)
    assert (site / "ddpm_lightning" / "conf" / "train.yaml").is_file()
    script = str(site / "bin" / "ddpm-lightning")
    here = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = run(
        sys.executable, "-c", "import ddpm_lightning; print(ddpm_lightning.__file__)", folder=empty, **here
    )
    assert where.startswith(str(site))
    assert "train" in run(sys.executable, script, "--help", folder=empty, **here)
    assert "network:" in run(sys.executable, script, "train", "--cfg", "job", folder=empty, **here)
    settings = [
        "trainer=cpu",
        "trainer.max_steps=20",
        "data.counts={train: 8, val: 2, test: 2}",
        "run_folder=run",
    ]
    run(sys.executable, script, "train", *settings, folder=empty, **here)
    assert (empty / "run" / "checkpoints" / "best.ckpt").is_file()
