"""Trainings on stacks: from the data to a checkpoint that knows its neighbours, and from a model of single planes."""

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.train import new_settings
from ddpm_lightning.datasets.simulated_stacks import SimulatedMovies
from ddpm_lightning.evaluation.restored_pair import restore_pair
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.models.build import build_method, with_neighbours
from ddpm_lightning.training import finetune
from ddpm_lightning.training.fit import start_run
from tests.trained import write_checkpoint

NETWORKS = ["model.network.base=8", "model.std_network.base=8", "model.regression.network.base=8"]
NETWORKS += ["model.regression.network.multipliers=[1,2]"]
DATA = ["data.size=32", "data.specimen.planes=4", "data.counts={train: 2, val: 1, test: 1}", "data.crop=16"]
RUN = ["trainer=cpu", "trainer.max_steps=4", "trainer.precision=32-true", "callbacks.images.samples=2"]


def test_a_run_in_two_stages_on_simulated_movies(tmp_path):
    names = {"model": "scored_small", "data": "simulated_movie"}
    config = compose.compose(
        "train", [*(f"{key}={name}" for key, name in names.items()), *NETWORKS, *DATA, *RUN]
    )
    config.run_folder = str(tmp_path / "run")
    run = start_run(new_settings(config, names))
    trained = load(run.best)
    assert trained.card["neighbours"] == {"planes": 2, "axis": "t"} and trained.neighbours_axis == "t"
    assert trained.method.neighbours == 2
    # The regressor, with its stem, is that of the first stage.
    first = load(run.folder / "mean" / "checkpoints" / "best.ckpt").method.state_dict()
    assert "stem.kernels" in first
    for name, weight in trained.method.state_dict().items():
        if name.startswith("regression."):
            assert torch.allclose(weight, first[name.removeprefix("regression.")], atol=1e-5)
    # Evaluations see the same neighbours as restorations.
    torch.nn.init.constant_(trained.method.regression.stem.kernels, 0.1)
    data = SimulatedMovies(
        {"test": 1}, 32, specimen={"planes": 4}, normalisation=trained.normalisation, neighbours=2
    )
    planes = data.pairs("test").source
    stack = np.stack([planes[index].low for index in range(4)])
    restored = Restorer(trained, scale="plane").restore(stack, axes="TYX").mean[1]
    assert np.allclose(restore_pair(Restorer(trained), planes[1], [1]).average, restored, rtol=1e-5)
    assert not np.allclose(Restorer(trained, scale="plane").restore(stack[1]).mean, restored, rtol=1e-5)


def test_a_model_of_single_planes_is_trained_further(tmp_path):
    model = ["model=regression_small", "model.network.base=8", "model.network.multipliers=[1,2]"]
    plain = write_checkpoint(tmp_path / "plain.ckpt", model=[*model, "data.crop=32"])
    trained = load(plain)
    method = build_method(with_neighbours(trained.card["model"], 2))
    finetune.take_weights(method, str(plain))
    low = torch.randn(1, 5, 16, 16)
    with torch.no_grad():
        assert torch.equal(method.combined(low), low[:, :1])
        found = method.eval().estimate(method.combined(low))
        assert torch.allclose(found, trained.method.estimate(low[:, :1]), atol=1e-5)
