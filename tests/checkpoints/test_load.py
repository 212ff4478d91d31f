import pickle
import zipfile

import pytest
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.diffusion.samplers import DDIM, Ancestral
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build
from tests.trained import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "best.ckpt")


def test_a_checkpoint_brings_model_weights_and_normalisation(checkpoint):
    trained = load(checkpoint)
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, weight in trained.method.state_dict().items():
        assert torch.equal(weight, stored[name])
    assert trained.normalisation.target.fitted.high == 100
    assert trained.method.bounds == (-1, 1.5) and not trained.method.training
    assert len(trained.sha256) == 64


def test_the_sampler_can_be_changed_or_replaced(checkpoint):
    stored = load(checkpoint, preset="stored").method
    assert isinstance(stored.sampler, Ancestral) and stored.evaluations == 3
    assert load(checkpoint, sampler={"steps": 7}).method.evaluations == 7
    target = "ddpm_lightning.diffusion.samplers.DDIM"
    other = load(checkpoint, sampler={"_target_": target, "steps": 5, "eta": 0.0}).method
    assert isinstance(other.sampler, DDIM) and other.evaluations == 5


def spoil(checkpoint, change):
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, checkpoint)


class Bomb:
    def __reduce__(self):
        return print, ("code was executed",)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.write_bytes(p.read_bytes()[:2000]), "cannot be read"),
        (lambda p: p.write_text("hello"), "cannot be read"),
        (lambda p: p.write_bytes(pickle.dumps(Bomb())), "cannot be read"),
        (lambda p: torch.save({"state_dict": {}, "card": Bomb()}, p), "cannot be read"),
        (lambda p: torch.save({"weights": torch.zeros(3)}, p), "not a checkpoint of ddpm-lightning"),
        (lambda p: torch.save([1, 2], p), "not a checkpoint of ddpm-lightning"),
        (lambda p: spoil(p, lambda c: c["card"].update(format=99)), "format 99"),
        (lambda p: spoil(p, lambda c: c["state_dict"].popitem()), "do not fit"),
        (lambda p: spoil(p, lambda c: c["card"]["model"].update(_target_="os.system")), "not allowed"),
        (
            lambda p: spoil(p, lambda c: c["card"]["model"].update(_target_="ddpm_lightning.nothing.X")),
            "not allowed",
        ),
        (
            lambda p: spoil(p, lambda c: c["card"]["model"]["network"].update(nonsense=1)),
            "nonsense: is not a setting",
        ),
    ],
)
def test_bad_checkpoints_are_refused_and_never_executed(checkpoint, damage, words, capsys):
    damage(checkpoint)
    with pytest.raises(UserError, match=words):
        load(checkpoint)
    assert "code was executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "target", ["builtins.eval", "subprocess.run", "ddpm_lightning.utils.instantiate.importlib.import_module"]
)
def test_only_names_of_this_package_are_built(target):
    with pytest.raises(UserError, match=r"not allowed|cannot be"):
        build({"_target_": target, "name": "os"})


def test_build_nests_lists_and_makes_factories():
    built = build(
        {
            "a": [{"_target_": "ddpm_lightning.diffusion.samplers.DDIM", "steps": 4}, 3],
            "b": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5},
        }
    )
    assert built["a"][0].steps == 4 and built["a"][1] == 3
    assert built["b"]([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"] == 0.5


def test_a_package_for_other_programs_is_called_so(tmp_path):
    path = tmp_path / "my model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("rdf.yaml", "type: model")
    with pytest.raises(UserError, match="BioImage.IO package") as raised:
        load(path)
    assert "safetensors" in raised.value.allowed
