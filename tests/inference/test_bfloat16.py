"""Bfloat16 is taken only where the processor computes in it; elsewhere whoever insists on it is warned."""

import logging

import numpy as np
import pytest
import torch

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.tree import config_folder
from ddpm_lightning.inference.bfloat16 import use_bfloat16
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.training.trainer import precision
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False])
def native(request, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return request.param


def test_auto_looks_at_the_processor(native, caplog, capsys):
    assert use_bfloat16("auto", CPU) is native and use_bfloat16(False, CPU) is False
    assert precision({"precision": "auto", "accelerator": "cpu"}) == ("bf16-mixed" if native else "32-true")
    assert not caplog.records and not capsys.readouterr().out
    with caplog.at_level(logging.WARNING):
        assert use_bfloat16(True, CPU) is True
    assert bool(caplog.records) is not native
    assert precision({"precision": "bf16-mixed", "accelerator": "cpu"}) == "bf16-mixed"
    assert ("does not support bfloat16" in capsys.readouterr().out) is not native


def test_a_restorer_that_looks_computes_as_it_found(native, tmp_path):
    model = write_checkpoint(tmp_path / "best.ckpt")
    image = np.random.default_rng(0).poisson(30, (32, 32)).astype(float)
    looked, same = (Restorer.load(model, "cpu", bfloat16=wish) for wish in ("auto", native))
    assert looked.bfloat16 is native
    with pytest.raises(UserError) as error:
        Restorer.load(model, "cpu", bfloat16="maybe")
    assert error.value.subject == "bfloat16"
    np.testing.assert_array_equal(looked.restore(image, 1).mean, same.restore(image, 1).mean)


def test_nothing_that_comes_with_the_package_forces_it():
    benchmark = compose.plain(compose.compose("benchmark", []))
    trained = compose.plain(compose.compose("train", benchmark["train"]))
    scored = compose.plain(compose.compose("evaluate", ["checkpoint=x", *benchmark["evaluate"]]))
    shipped = compose.plain(compose.compose("train", ["experiment=default_model"]))
    assert trained["trainer"]["precision"] == shipped["trainer"]["precision"] == scored["bfloat16"] == "auto"
    for path in config_folder().rglob("*.yaml"):
        settings = [line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        assert not any("bf16" in line or "bfloat16: true" in line for line in settings), path
