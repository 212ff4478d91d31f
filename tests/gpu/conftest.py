"""Tests on an accelerator: every test takes its device from here, so that a CPU can run them too.

They are collected if there is a CUDA device. ``DDPM_LIGHTNING_TEST_DEVICE=cpu`` runs them on a CPU.
"""

import os

import pytest
import torch

DEVICE = os.environ.get("DDPM_LIGHTNING_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not DEVICE and item.get_closest_marker("gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture(scope="session")
def backend(device) -> str:
    """Compiler of the device; that of CPUs takes minutes, so only the capture of the graph is tried there."""
    return "inductor" if device.type == "cuda" else "eager"


@pytest.fixture
def exact():
    """Computes without TensorFloat-32, which GPUs use for convolutions by default and whose mantissa has 10 bits."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
