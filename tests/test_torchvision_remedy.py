"""The import hook against stand-ins of torchvision: broken in the known way, broken otherwise, and healthy."""

import subprocess
import sys

import pytest

from ddpm_lightning.utils import torchvision_remedy

HEAD = "import sys\nsys.path.insert(0, sys.argv[1])\nimport ddpm_lightning\nimport torchvision\n"


def outcome(tmp_path, registrations: str, check: str = "") -> subprocess.CompletedProcess:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\nwhole = True\n")
    (package / "_meta_registrations.py").write_text(registrations)
    return subprocess.run([sys.executable, "-c", HEAD + check, str(tmp_path)], capture_output=True, text=True)


def test_the_known_failure_is_swallowed(tmp_path):
    registrations = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    assert outcome(tmp_path, registrations, "assert torchvision.whole").returncode == 0


@pytest.mark.parametrize("error", ["RuntimeError('something else')", "ImportError('torchvision::nms')"])
def test_other_failures_are_raised(tmp_path, error):
    answer = outcome(tmp_path, f"raise {error}\n")
    assert answer.returncode == 1 and error.split("(")[0] in answer.stderr


def test_a_healthy_torchvision_is_left_alone(tmp_path):
    check = "assert torchvision._meta_registrations.registered == 3"
    assert outcome(tmp_path, "registered = 3\n", check).returncode == 0


def test_the_hook_is_installed_once_and_imports_nothing():
    torchvision_remedy.install()
    torchvision_remedy.install()
    assert sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path) == 1
    light = "import sys, ddpm_lightning; assert not {'torch', 'torchvision', 'lightning', 'wandb'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", light]).returncode == 0


@pytest.mark.slow
def test_lightning_torchmetrics_and_lpips_can_be_imported():
    code = "import ddpm_lightning, lightning, torchmetrics, lpips, torchvision; torchvision.models.alexnet"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
