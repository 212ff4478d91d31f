"""The verb export: a package that the validator of BioImage.IO accepts."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference import bioimage
from tests.trained import write_checkpoint


@pytest.fixture
def arguments(tmp_path):
    model = write_checkpoint(tmp_path / "model" / "best.ckpt")
    image = np.random.default_rng(0).poisson(30, (70, 90)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "low.tif", image)
    return [
        "export",
        f"checkpoint={model}",
        f"sample={tmp_path}/low.tif",
        "authors=[A. Scientist]",
        "samples=2",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_package_passes_its_validator(command, arguments, tmp_path):
    pytest.importorskip(
        "bioimageio.core", reason="needs the extra export: pip install 'ddpm-lightning[export]'"
    )
    answer = command(*arguments, f"output={tmp_path}/model.zip")
    assert answer.code == 0, answer.err
    names = zipfile.ZipFile(tmp_path / "model.zip").namelist()
    assert {"rdf.yaml", "weights.pt", "low.npy", "restored.npy", "std.npy", "README.md"} <= {
        "rdf.yaml" if name == "bioimageio.yaml" else name for name in names
    }
    validator = [str(Path(sys.executable).parent / "bioimageio"), "test", str(tmp_path / "model.zip")]
    tested = subprocess.run(validator, capture_output=True, text=True, timeout=250)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert not list(tmp_path.glob(".*.zip"))


def test_a_safetensors_model_replaces_its_checkpoint_and_names_its_authors(command, arguments, tmp_path):
    small = tmp_path / "small.safetensors"
    assert command(*arguments, f"output={small}", "description=Made for a test").code == 0
    answer = command("show", str(small))
    assert answer.code == 0 and "A. Scientist" in answer.out and "Made for a test" in answer.out
    assert str(tmp_path) not in answer.out.replace(str(small), "")
    again = command(
        "restore", f"checkpoint={small}", f"input={tmp_path}/low.tif", f"output={tmp_path}/out", "samples=1"
    )
    assert again.code == 0 and (tmp_path / "out/low.tif").is_file(), again.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["output=model.tar"], ["output=model.tar", "NAME.zip"]),
        (["output=model.zip", "authors=[]"], ["authors", "a list"]),
        (["output=model.zip", "authors=me"], ["authors", "'me'", "a list"]),
        (["output=model.zip", "samples=0"], ["samples", "is 0"]),
    ],
)
def test_bad_settings_are_refused(command, arguments, tmp_path, change, words):
    answer = command(*arguments, *change)
    assert answer.code == 2 and all(word in answer.err for word in words), answer
    assert not list(tmp_path.glob("*.zip"))


def test_a_missing_extra_is_named(command, arguments, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bioimageio.spec.model", None)
    monkeypatch.setitem(sys.modules, "bioimageio", None)
    with pytest.raises(bioimage.UserError, match="needs bioimageio.core"):
        bioimage.specification()
    answer = command(*arguments, f"output={tmp_path}/model.zip")
    assert answer.code == 2 and "pip install 'ddpm-lightning[export]'" in answer.err
