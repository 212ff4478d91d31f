"""What a finished training suggests to do next."""

from pathlib import Path

import pytest

from ddpm_lightning.cli import train


@pytest.mark.parametrize(("normalisation", "protocol"), [("dataset", ""), ("image", " protocol=affine")])
def test_images_with_scales_of_their_own_are_compared_by_a_fit(
    command, monkeypatch, tmp_path, normalisation, protocol
):
    """A training that has happened is all that is needed."""
    best = Path("checkpoints/best.ckpt")
    monkeypatch.setattr(train, "train", lambda settings: train.Run(tmp_path, best, best, True))
    answer = command("train", f"data/normalisation={normalisation}", f"run_folder={tmp_path}")
    assert answer.code == 0, answer.err
    assert answer.out.rstrip().endswith(f"evaluate checkpoint={best}{protocol}")
