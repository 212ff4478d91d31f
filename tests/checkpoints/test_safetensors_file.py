import json

import pytest
import torch
from safetensors.torch import save_file

from ddpm_lightning.checkpoints import safetensors_file
from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.checkpoints.safetensors_file import shipped_models, write_safetensors
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


@pytest.fixture
def original(tmp_path):
    return write_checkpoint(tmp_path / "run/checkpoints/best.ckpt")


@pytest.fixture
def small(original, tmp_path):
    write_safetensors(torch.load(original, weights_only=True), tmp_path / "small.safetensors", torch.float16)
    return tmp_path / "small.safetensors"


def test_a_packed_model_is_half_as_large_and_restores_alike(original, small):
    weights = sum(p.numel() for p in load(original).method.parameters())
    assert small.stat().st_size < 2 * weights + 40_000 < original.stat().st_size
    one, other = load(original, samples=1), load(small, samples=1)
    assert one.card == json.loads(json.dumps(other.card))
    for (name, wanted), (_, found) in zip(
        one.method.state_dict().items(), other.method.state_dict().items(), strict=True
    ):
        # float16 keeps 11 bits.
        assert torch.allclose(wanted.float(), found.float(), rtol=2**-11, atol=1e-7), name


def test_single_numbers_keep_their_precision(tmp_path):
    sigma = torch.tensor(0.123456789)
    write_safetensors(
        {"state_dict": {"sigma": sigma, "count": torch.tensor([3])}, "card": {}}, tmp_path / "a.safetensors"
    )
    found = safetensors_file.read_safetensors(tmp_path / "a.safetensors")["state_dict"]
    assert found["sigma"] == sigma and found["count"].dtype == torch.int64


def test_no_place_of_the_machine_is_passed_on():
    card = {
        "model": {"mean": "/home/me/best.ckpt", "_target_": "a.b"},
        "provenance": {"command": ["train", "data.root=/home/me", "model=a/b"], "machine": {"name": "mine"}},
        "list": [1, None, "relative/path"],
    }
    assert safetensors_file.portable(card) == {
        "model": {"mean": None, "_target_": "a.b"},
        "provenance": {"command": ["train", "data.root=null", "model=a/b"], "machine": None},
        "list": [1, None, "relative/path"],
    }


def test_shipped_models_are_known_by_name(small, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_file, "SHIPPED", tmp_path)
    assert shipped_models() == {"small": small}
    assert load("small").path == small
    with pytest.raises(UserError, match="shipped model: small"):
        load("smal")


def test_a_file_wins_over_a_shipped_name(original, small, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_file, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    original.rename(tmp_path / "small")
    assert load("small").path.name == "small"


@pytest.mark.parametrize("cut", [0, 5, 200, -40])
def test_damaged_files_are_named(small, cut):
    small.write_bytes(small.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"small\.safetensors.*cannot be read"):
        load(small)


def test_a_file_without_card_is_refused(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a checkpoint of ddpm-lightning"):
        load(tmp_path / "other.safetensors")


def test_weights_of_half_precision_are_refused_if_not_finite(original, tmp_path):
    content = torch.load(original, weights_only=True)
    name = next(n for n, t in content["state_dict"].items() if t.numel() > 1 and "weight" in n)
    content["state_dict"][name] = content["state_dict"][name] * 1e9
    write_safetensors(content, tmp_path / "large.safetensors", torch.float16)
    with pytest.raises(UserError, match="NaN or infinite"):
        load(tmp_path / "large.safetensors")
