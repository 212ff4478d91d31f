"""Bad input: exit code 2, no traceback, the culprit named, what was found and allowed, and nothing half-written."""

import numpy as np
import pytest
import tifffile

from tests.cli.test_verbs import TINY
from tests.trained import write_checkpoint


@pytest.fixture
def places(pair_folder, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "model" / "best.ckpt")
    image = np.random.default_rng(0).poisson(20, (40, 40)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "good.tif", image)
    tifffile.imwrite(tmp_path / "constant.tif", np.full((40, 40), 3, np.uint16))
    tifffile.imwrite(tmp_path / "small.tif", image[:5, :5])
    tifffile.imwrite(tmp_path / "nan.tif", np.where(image > 20, np.nan, image).astype(np.float32))
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((40, 40, 3), np.uint8), photometric="rgb")
    (tmp_path / "truncated.tif").write_bytes((tmp_path / "good.tif").read_bytes()[:1500])
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("not an image")
    (tmp_path / "other.ckpt").write_bytes(b"not a checkpoint")
    (tmp_path / "file").touch()
    return {"pairs": pair_folder, "model": checkpoint, "here": tmp_path}


TRAIN = ["train", *TINY, "data.root={pairs}", "trainer.max_steps=2", "run_folder={here}/run"]
RESTORE = ["restore", "checkpoint={model}", "output={here}/out", "samples=1"]
EVALUATE = [
    "evaluate",
    "checkpoint={model}",
    "data=folder",
    "data.root={pairs}",
    "output={here}/out",
    "samples=1",
]

CASES = {
    "unknown verb": (["trian"], ["'trian'", "did you mean train"]),
    "unknown key": ([*TRAIN, "trainer.max_step=3"], ["trainer.max_step", "did you mean trainer.max_steps"]),
    "unknown key at the top": ([*TRAIN, "sede=3"], ["sede", "did you mean seed"]),
    "unknown choice": ([*TRAIN, "model=dppm_small"], ["model 'dppm_small'", "did you mean ddpm_small"]),
    "a choice with a typing error": (
        [*TRAIN, "data=simulated_microtubuls"],
        ["did you mean simulated_microtubules?"],
    ),
    "a key in other letters": ([*TRAIN, "trainer.maxsteps=3"], ["did you mean trainer.max_steps?"]),
    "a shipped model with a typing error": (
        ["restore", "checkpoint=defualt", "input={here}/good.tif", "output={here}/out"],
        ["did you mean checkpoint=default?"],
    ),
    "unknown option": ([*TRAIN, "--fast"], ["--fast", "is not an option"]),
    "bad grammar": ([*TRAIN, "trainer.max_steps=a=b,c"], ["trainer.max_steps=a=b,c", "override"]),
    "a path is no grammar": ([*TRAIN, "data.root=a=b,c"], ["data.root=a=b,c", "is not a folder"]),
    "missing value": (
        ["restore", "checkpoint={model}", "output={here}/out"],
        ["input", "is not given", "add input="],
    ),
    "no such folder": ([*TRAIN, "data.root={here}/nowhere"], ["data.root=", "nowhere", "is not a folder"]),
    "crop too large": ([*TRAIN, "data.crop=256"], ["data.crop", "256", "data.crop=64"]),
    "crop off the levels": ([*TRAIN, "data.crop=33"], ["data.crop", "33", "multiples of 4"]),
    "batch of nothing": ([*TRAIN, "data.batch_size=0"], ["data.batch_size", "is 0"]),
    "too many steps": ([*TRAIN, "model.sampler.steps=300"], ["sampler.steps", "300", "1 to 200"]),
    "unknown objective": ([*TRAIN, "model.objective.name=eps"], ["objective", "'eps'", "epsilon, v, x0"]),
    "no checkpoint": (
        [*RESTORE, "input={here}/good.tif", "checkpoint={here}/no.ckpt"],
        ["no.ckpt", "no such file"],
    ),
    "other checkpoint": ([*RESTORE, "input={here}/good.tif", "checkpoint={here}/other.ckpt"], ["other.ckpt"]),
    "no input": ([*RESTORE, "input={here}/none.tif"], ["none.tif", "no such file"]),
    "constant image": ([*RESTORE, "input={here}/constant.tif"], ["constant.tif", "every pixel is 3"]),
    "small image": ([*RESTORE, "input={here}/small.tif"], ["small.tif", "5 x 5", "at least 16"]),
    "NaN image": ([*RESTORE, "input={here}/nan.tif"], ["nan.tif", "NaN"]),
    "colour image": ([*RESTORE, "input={here}/colour.tif"], ["colour.tif"]),
    "truncated image": ([*RESTORE, "input={here}/truncated.tif"], ["truncated.tif"]),
    "empty file": ([*RESTORE, "input={here}/empty.tif"], ["empty.tif", "empty"]),
    "not an image": ([*RESTORE, "input={here}/text.tif"], ["text.tif"]),
    "output is the input": (
        ["restore", "checkpoint={model}", "input={pairs}/test/low", "output={pairs}/test/low"],
        ["output=", "folder of the input"],
    ),
    "output is a file": ([*RESTORE, "input={here}/good.tif", "output={here}/file"], ["output=", "is a file"]),
    "a run folder that cannot be": (
        [*TRAIN, "run_folder={here}/file/run"],
        ["file/run", "file is not a folder"],
    ),
    "results that cannot be written": ([*EVALUATE, "output={here}/file"], ["file is not a folder"]),
    "no samples": ([*RESTORE, "input={here}/good.tif", "samples=0"], ["samples", "is 0"]),
    "small tile": ([*RESTORE, "input={here}/good.tif", "tile=32"], ["tile", "twice the overlap"]),
    "unknown protocol": ([*EVALUATE, "protocol=papre"], ["protocol", "'papre'", "did you mean paper"]),
    "unknown split": ([*EVALUATE, "split=testing"], ["split", "'testing'", "train, val, test"]),
    "unknown device": ([*EVALUATE, "device=tpu"], ["device", "'tpu'"]),
    "no backbone": ([*EVALUATE, "metrics.lpips.backbone={here}/none"], ["none"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(command, places, case):
    arguments, words = CASES[case]
    before = {path for path in places["here"].rglob("*")}
    answer = command(*(argument.format(**places) for argument in arguments))
    assert answer.code == 2, answer
    assert answer.err.startswith("error: ") and "Traceback" not in answer.err + answer.out
    for word in words:
        assert word in answer.err
    left = {path for path in places["here"].rglob("*")} - before
    assert not [path for path in left if path.is_file()], left


NONSENSE = {
    "train": [
        "seed=-1",
        "seed=1.5",
        "seed=abc",
        "seed=null",
        "seed=[1,2]",
        "trainer.max_steps=0",
        "trainer.max_steps=x",
        "trainer=gpu",
        "trainer.devices=x",
        "trainer.precision=nonsense",
        "+trainer.max_epochs=3",
        "trainer.check_val_every_n_epoch=0",
        "data.crop=32.0",
        "data.crop=null",
        "data.batch_size=2.5",
        "data.validation_crops=0",
        "data.crops_per_image=-1",
        "data.cache_gb=-1",
        "data.normalisation.input.blur=x",
        "model.optimizer.lr=nan",
        "model.optimizer.lr=-1",
        "model.network.base=0",
        "model.network.multipliers=[]",
        "model.network.dropout=2",
        "model.sampler.steps=x",
        "callbacks.images.budget=0",
        "callbacks.images.samples=0",
        "callbacks.ema.decay=2",
        "logger=null",
        "=3",
        "seed=${oc.env:SURELY_NOT_SET}",
        "hydra.nope=3",
    ],
    "restore": [
        "samples=1.5",
        "samples=-1",
        "tile=0",
        "tile=x",
        "overlap=-1",
        "device=null",
        "seed=x",
        "bfloat16=x",
        "output=",
        "sampler=null",
        "sampler.steps=1.5",
    ],
}


@pytest.mark.parametrize(
    ("verb", "nonsense"), [(verb, value) for verb, values in NONSENSE.items() for value in values]
)
def test_nonsense_is_refused_before_anything_is_written(command, places, verb, nonsense):
    given = TRAIN if verb == "train" else [*RESTORE, "input={here}/good.tif"]
    before = {path for path in places["here"].rglob("*")}
    answer = command(*(argument.format(**places) for argument in given), nonsense)
    assert answer.code == 2, answer
    assert "error: " in answer.err and "Traceback" not in answer.err
    assert not [path for path in {path for path in places["here"].rglob("*")} - before if path.is_file()]


def test_a_diverged_training_stops_with_the_step(command, places):
    answer = command(*(argument.format(**places) for argument in TRAIN), "model.optimizer.lr=1e30")
    assert answer.code == 2 and "train/loss" in answer.err and "model.optimizer.lr" in answer.err


def test_a_folder_with_a_run_that_failed_early_can_be_used_again(command, places):
    arguments = [argument.format(**places) for argument in TRAIN]
    (places["here"] / "run").mkdir()
    (places["here"] / "run" / "config.yaml").write_text("seed: 0")
    (places["here"] / "run" / "status.json").write_text('{"state": "starting", "process": 4194305}')
    assert command(*arguments).code == 0
