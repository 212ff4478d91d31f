"""Every file of the configuration tree composes and builds what it describes."""

import inspect
import re

import lightning
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.main import VERBS
from ddpm_lightning.cli.tree import choices, config_folder
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.diffusion.samplers import Sampler
from ddpm_lightning.models.build import build_method
from ddpm_lightning.models.classical import Classical
from ddpm_lightning.models.method import Method
from ddpm_lightning.models.regression import CARE
from ddpm_lightning.simulation.degradations import degrade
from ddpm_lightning.utils.instantiate import build

CONF = config_folder()
FILES = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))
COVERED = {
    "prepare",
    "train",
    "evaluate",
    "compare",
    "restore",
    "export",
    "demo",
    "common",
    "show",
    "dashboard",
    "benchmark",
    "report",
}


def composed(*overrides: str, verb: str = "train", folder: str = "somewhere") -> dict:
    config = compose.compose(verb, list(overrides))
    if "run_folder" in config:
        config.run_folder = folder
    return compose.plain(config)


def needed(data: str, tmp_path) -> list[str]:
    (tmp_path / "train").mkdir(exist_ok=True)
    return [f"data.root='{tmp_path}'"] if data == "folder" else []


#: Published numbers of parameters, or those computed from the published architectures.
PARAMETERS = {
    "care": 922_977,
    "noise2void": 333_729,
    "n2v2": 324_513,
    "struct_n2v": 333_729,
    "pix2pix": 54_407_809 + 2_764_609,
    "unet_rcan": 16_684_337,
    "unet_rcan_notebook": 87_634_737,
}


@pytest.mark.parametrize("name", choices("model"))
def test_models(name):
    with torch.device("meta"):
        model = build_method(composed(f"model={name}")["model"])
    assert isinstance(model, Method)
    parameters = sum(p.numel() for p in model.parameters())
    if name.endswith("_small"):
        assert 1e6 < parameters < 3e6
    elif name in PARAMETERS:
        assert parameters == PARAMETERS[name]
    elif not isinstance(model, Classical):
        assert parameters > (9e5 if isinstance(model, CARE) else 6e7)


def test_the_regressor_is_the_network_of_the_diffusion_model():
    """Apart from what it is shown: the weights of one more input channel."""
    for size in ("", "_small"):
        with torch.device("meta"):
            regressor = build_method(composed(f"model=regression{size}")["model"]).network
            diffusion = build_method(composed(f"model=ddpm{size}")["model"]).network
            mean = build_method(composed(f"model=pmrf{size}")["model"]).regression.network
        shapes = [[tuple(p.shape) for p in network.parameters()] for network in (regressor, diffusion, mean)]
        assert shapes[0] == shapes[2]
        different = [pair for pair in zip(*shapes[:2], strict=True) if pair[0] != pair[1]]
        assert len(different) == 1


@pytest.mark.parametrize("name", choices("data"))
def test_data(name, tmp_path):
    assert isinstance(build(composed(f"data={name}", *needed(name, tmp_path))["data"]), PairDataModule)


@pytest.mark.parametrize("name", choices("data/degradations"))
def test_degradations(name):
    others = [other for other in choices("data/degradations") if other != name]
    settings = composed("data=simulated_synapses", f"data/degradations=[{name},{others[0]}]")["data"]
    degradations = build(settings["degradations"])
    assert list(degradations) == [name, others[0]]
    image = np.random.default_rng(0).poisson(20, (24, 32)).astype(np.uint16)
    degraded = degrade(image, list(degradations.values())[:1], np.random.default_rng(0))
    assert degraded.shape == image.shape and degraded.dtype == image.dtype and (degraded != image).any()
    assert build(settings).degradations == tuple(degradations.values())


@pytest.mark.parametrize("name", choices("data/normalisation"))
def test_normalisations(name):
    settings = composed(f"data/normalisation={name}")["data"]["normalisation"]
    assert build(settings).target_bounds == (-1, 1)


@pytest.mark.parametrize("name", choices("sampler"))
def test_samplers(name):
    steps = [] if name == "one_step" else ["sampler.steps=3"]
    settings = composed(f"sampler={name}", "checkpoint=a", *steps, verb="evaluate")["sampler"]
    if "_target_" in settings:
        assert isinstance(build(settings), Sampler) and build(settings).steps == (3 if steps else 1)
    else:
        assert settings["steps"] == 3


@pytest.mark.parametrize("name", choices("model/lr_schedule"))
def test_learning_rates(name):
    make = build(composed(f"model/lr_schedule={name}")["model"]["lr_schedule"])
    assert "scheduler" in make(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), total_steps=10)


@pytest.mark.parametrize("name", choices("trainer"))
def test_trainers(name):
    settings = composed(f"trainer={name}", *(["trainer.num_nodes=2"] if name == "multinode" else []))[
        "trainer"
    ]
    accepted = set(inspect.signature(lightning.Trainer).parameters)
    assert set(settings) <= accepted
    if settings["accelerator"] in ("auto", "cpu") and settings["devices"] == 1:
        assert lightning.Trainer(**{**settings, "precision": "32-true"}, max_epochs=-1, logger=False)


@pytest.mark.parametrize("name", choices("logger"))
def test_loggers(name, tmp_path):
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    for node in composed(f"logger={name}", folder=str(tmp_path))["logger"].values():
        if node["_target_"].endswith("WandbLogger"):
            # Building one starts a run or asks for a key; its arguments must be right all the same.
            inspect.signature(lightning.pytorch.loggers.WandbLogger).bind(
                **{key: value for key, value in node.items() if key != "_target_"}
            )
        else:
            assert isinstance(build(node), lightning.pytorch.loggers.Logger)


@pytest.mark.parametrize("name", choices("callbacks") + ["default"])
def test_callbacks(name, tmp_path):
    for node in composed(f"callbacks={name}", folder=str(tmp_path))["callbacks"].values():
        assert isinstance(build(node), lightning.Callback)


@pytest.mark.parametrize("name", choices("experiment"))
def test_experiments(name):
    text = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert re.match(r"# @package _global_\n# ddpm-lightning ", text), "begins with the command that runs it"
    with torch.device("meta"):
        assert isinstance(build_method(composed(f"experiment={name}")["model"]), Method)


@pytest.mark.parametrize("name", choices("debug"))
def test_debugging(name):
    config = composed(f"debug={name}", "trainer=cpu")
    assert all(isinstance(build(node), lightning.Callback) for node in config["callbacks"].values() if node)
    assert config["trainer"]["max_steps"] <= 300 and build(config["trainer"])


@pytest.mark.parametrize("name", choices("sweep"))
def test_sweeps(name):
    text = (CONF / "sweep" / f"{name}.yaml").read_text(encoding="utf-8")
    verb = re.match(rf"# @package _global_\n# ddpm-lightning (train|evaluate) .*sweep={name}", text).group(1)
    swept = OmegaConf.load(CONF / "sweep" / f"{name}.yaml").hydra.sweeper.params
    given = ["checkpoint=a"] if verb == "evaluate" else []
    for key, values in swept.items():
        for value in re.findall(r"\d[\d.e+-]*", values):
            assert composed(f"{key}={value}", *given, verb=verb)


@pytest.mark.parametrize(("name", "expected"), [("released_code", 64_067_869), ("paper", 69_310_749)])
def test_the_two_faithful_experiments(name, expected):
    config = composed(f"experiment={name}")
    with torch.device("meta"):
        model = build_method(config["model"])
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.objective.name == "epsilon" and model.schedule.steps == 200 and model.label == "alpha_bar"
    assert (config["data"]["augment"], config["data"]["shuffle"]) == ((name == "paper",) * 2)
    assert config["callbacks"]["ema"] is None and config["evaluation"] == "paper"
    assert config["model"]["optimizer"]["lr"] == 2e-4
    assert (model.first_step == 2, model.network.bottleneck[0].always_clip) == (
        (name == "released_code",) * 2
    )
    blur = build(config["data"]["blur"])
    assert (blur is None) == (name == "released_code") and config["data"]["hot_pixels"] == "keep"
    assert config["trainer"]["precision"] == "32-true" and config["trainer"]["gradient_clip_val"] is None
    images, checkpoint = config["callbacks"]["images"], config["callbacks"]["checkpoint"]
    assert (checkpoint["monitor"], checkpoint["mode"]) == ("val/mae", "min")
    assert images["images"] is None and images["budget"] == 1 and images["scale"] == "normalised"
    preset = model.presets[images["preset"]]
    assert (
        preset.samples == 15 and not preset.tta and build(preset.sampler).evaluations(model.schedule) == 200
    )
    schedule = build(config["model"]["lr_schedule"])(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0), 40
    )
    rates = []
    for _ in range(41):
        rates.append(schedule["scheduler"].get_last_lr()[0])
        schedule["scheduler"].optimizer.step()
        schedule["scheduler"].step()
    unit, period = ("step", 40) if name == "paper" else ("epoch", 20)
    assert schedule["interval"] == unit
    assert rates == pytest.approx([(1 + np.cos(np.pi * step / period)) / 2 for step in range(41)], abs=1e-9)
    scale = build(config["data"]["normalisation"]).input.scale(np.zeros((8, 8)))
    assert (scale.low, scale.high) == (0, 255), "x / 127.5 - 1, whatever the set"


def test_the_papers_evaluation():
    settings = composed("evaluation=paper", "checkpoint=a", verb="evaluate")
    expected = {"preset": "paper", "samples": 15, "protocol": "paper", "tta": False, "margin": 0}
    assert expected.items() <= settings.items() and settings["hot_pixels"] == "keep"


@pytest.mark.parametrize("verb", VERBS)
def test_verbs(verb):
    restore = ["checkpoint=a", "input=b", "output=c"]
    export = ["checkpoint=a", "output=b.zip", "authors=[c]"]
    given = {"evaluate": ["checkpoint=a"], "restore": restore, "export": export, "compare": ["files=[a,b]"]}
    given |= {"show": ["subject=a"], "report": ["files=[a,b]"]}
    assert composed(*given.get(verb, []), verb=verb)


@pytest.mark.slow
@pytest.mark.parametrize("name", choices("methods"))
def test_rows_of_the_benchmark(name):
    for method, about in composed(f"methods={name}", verb="benchmark")["methods"].items():
        assert ("trained" in about) != ("train" in about), method
        mean = ["model.mean=some.ckpt"] if "mean" in about else []
        model = composed(*about.get("train", ()), *mean)["model"]
        assert build_method(model) is not None
        evaluation = composed("checkpoint=a", "samples=15", *about.get("evaluate", ()), verb="evaluate")
        assert evaluation["samples"] >= 1


def test_every_file_is_covered_by_a_test_above():
    groups = {
        "model",
        "data",
        "normalisation",
        "sampler",
        "lr_schedule",
        "trainer",
        "logger",
        "callbacks",
        "experiment",
        "evaluation",
        "sweep",
        "debug",
        "hydra",
        "methods",
    }
    for file in FILES:
        assert file.split("/")[0] in groups if "/" in file else file.removesuffix(".yaml") in COVERED, file


@pytest.mark.parametrize("file", FILES)
def test_files_say_what_they_are(file):
    lines = (CONF / file).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    OmegaConf.load(CONF / file)
