"""What a model asks of Lightning's Trainer."""

import pytest

from ddpm_lightning.cli import compose
from ddpm_lightning.training.trainer import lightning_method, trainer_arguments
from ddpm_lightning.utils.errors import UserError


def settings(name: str, *overrides: str) -> dict:
    config = compose.compose("train", [f"model={name}", "trainer=ddp_cpu", *overrides])
    config.run_folder = "somewhere"
    config = compose.plain(config)
    return trainer_arguments(config["trainer"], lightning_method(config["model"]))


def test_models_that_step_themselves_are_not_clipped_by_lightning():
    assert settings("ddpm_small")["gradient_clip_val"] == 1.0 and settings("ddpm_small")["strategy"] == "ddp"
    for name in ("pix2pix_small", "gaussian"):
        found = settings(name)
        assert found["gradient_clip_val"] is None and found["strategy"] == "ddp_find_unused_parameters_true"


def test_accumulation_is_refused_where_it_cannot_be():
    assert settings("ddpm_small", "+trainer.accumulate_grad_batches=2")["accumulate_grad_batches"] == 2
    with pytest.raises(UserError, match="data.batch_size"):
        settings("pix2pix_small", "+trainer.accumulate_grad_batches=2")
