"""The networks that are compared on W2S: their sizes, their windows, their training."""

import shutil

import pytest
import torch

from ddpm_lightning.cli import compose
from experiments import common
from experiments.w2s_widefield import networks, run
from experiments.w2s_widefield.nafnet import NAFNet
from experiments.w2s_widefield.swinir import SwinIR
from tests.conftest import write_pairs
from tests.forks import fork_jobs

SMALL = {
    "NAFNet-32": ["+model.network.width=8", "+model.network.encoder=[1,1]", "+model.network.decoder=[1,1]"],
    "SwinIR light": ["+model.network.channels=12", "+model.network.groups=1", "+model.network.layers=2"],
}


@pytest.mark.parametrize(("network", "millions"), [(NAFNet, 17.11), (SwinIR, 0.90)])
def test_they_are_as_large_as_published(network, millions):
    assert sum(p.numel() for p in network().parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    "network",
    [NAFNet(8, (1, 1), 1, (1, 1)), SwinIR(12, 1, 2), SwinIR(12, 1, 2, patch=2)],
    ids=lambda n: type(n).__name__,
)
def test_every_parameter_learns_and_sizes_stay(network):
    image = torch.rand(2, 1, 2 * network.size_divisor, 3 * network.size_divisor)
    restored = network(image)
    assert restored.shape == image.shape
    for name, parameter in network.named_parameters():
        if name.endswith("_scale"):
            torch.nn.init.ones_(parameter)
    (network(image) ** 2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_shifted_windows_do_not_wrap_around():
    layer = SwinIR(12, groups=1, layers=2, window=4).groups[0].layers[1]
    x = torch.randn(1, 8, 12, 12, requires_grad=True)
    layer(x)[0, 0, 0].sum().backward()
    reached = x.grad.abs().sum((0, 3)).nonzero().max(0).values
    assert reached.tolist() == [1, 1]  # the corner's window is 2 x 2: half a window in both directions
    x.grad = None
    layer(x)[0, 3, 3].sum().backward()
    reached = x.grad.abs().sum((0, 3)).nonzero()
    assert reached.min(0).values.tolist() == [2, 2] and reached.max(0).values.tolist() == [5, 5]


def test_each_image_of_a_batch_is_restored_by_itself():
    network = SwinIR(12, 1, 2, window=4)
    images = torch.rand(3, 1, 8, 12)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


@pytest.mark.parametrize("network", networks.TRAININGS)
def test_the_settings_of_a_training_exist(network):
    settings = [*networks.TRAININGS[network], *networks.SIZES["small"].get(network, ())]
    config = compose.plain(
        compose.compose("train", [*settings, "data=simulated_synapses", "run_folder=unused"])
    )
    assert config["model"]["network"]["_target_"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_they_are_trained_scored_and_shown(tmp_path, capsys, monkeypatch):
    fork_jobs(capsys, monkeypatch)
    pairs = write_pairs(tmp_path / run.SET)
    monkeypatch.setattr(networks, "TRAININGS", {name: networks.TRAININGS[name] for name in SMALL})
    monkeypatch.setattr(networks, "TIMES", (1,))
    options = common.Options(
        {"seconds": 2, **SMALL},
        "default",
        tmp_path / "models",
        {run.SET: pairs},
        None,
        tmp_path / "work",
        tmp_path,
        [
            'evaluate=["samples=1","limit=1"]',
            "budget.steps=2",
            'train=["trainer=cpu","data.crop=32"]',
            "center_crop=32",
        ],
    )
    networks.measure(options)
    rows = common.read(tmp_path / "work" / "networks.csv")
    assert {row["network"] for row in rows} == {"NAFNet-32, trained 1 x", "SwinIR light, trained 1 x"}
    assert len(rows) == 2 * 3 and all(float(row["psnr"]) > 0 for row in rows)
    shutil.copytree(run.HERE / "results", tmp_path / "results")
    shutil.copy(tmp_path / "work" / "networks.csv", tmp_path / "results")
    assert "| NAFNet-32, trained 1 x |" in run.report(tmp_path)["scores"]
