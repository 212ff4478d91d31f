"""Cards and weights that cannot be: one sentence that names the file, in a moment, with hardly any memory."""

import json
import resource
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from ddpm_lightning.checkpoints import load as module
from ddpm_lightning.checkpoints import weights as reading
from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return torch.load(write_checkpoint(tmp_path_factory.mktemp("model") / "a.ckpt"), weights_only=True)


def deep(levels=200):
    node = {}
    for _ in range(levels):
        node = {"a": node}
    return node


def wide():
    node = ["x"]
    for _ in range(60):
        node = [node, node]
    return node


UNET = {"_target_": "ddpm_lightning.networks.unet.UNet"}
PIX2PIX = {"_target_": "ddpm_lightning.networks.pix2pix.Pix2PixGenerator"}
N2V = {"_target_": "ddpm_lightning.models.noise2void.Noise2Void", "network": UNET}
CARDS = {
    "deep": lambda c: c.update(model=deep()),
    "deep elsewhere": lambda c: c.update(provenance=deep()),
    "shared": lambda c: c.update(provenance={"a": wide()}),
    "shared in the model": lambda c: c["model"].update(label=wide()),
    "a text for a model": lambda c: c.update(model="ddpm"),
    "a list for a model": lambda c: c.update(model=[c["model"]]),
    "a text for a network": lambda c: c["model"].update(network="unet"),
    "a number for a sampler": lambda c: c["model"].update(sampler=3),
    "a list for a number": lambda c: c["model"]["network"].update(base=[8]),
    "a text for a number": lambda c: c["model"]["network"].update(base="8"),
    "a number for a list": lambda c: c["model"]["network"].update(multipliers=2),
    "100,000 multipliers": lambda c: c["model"]["network"].update(multipliers=[1] * 100_000),
    "20,000 multipliers": lambda c: c["model"]["network"].update(multipliers=[1] * 20_000),
    "a million blocks": lambda c: c["model"]["network"].update(blocks=10**6),
    "a wide network": lambda c: c["model"]["network"].update(base=10**6),
    "a wider one": lambda c: c["model"]["network"].update(base=10**12),
    "giant": lambda c: c["model"]["network"].update(base=10**4000),
    "negative": lambda c: c["model"]["network"].update(base=-8),
    "nought": lambda c: c["model"]["network"].update(base=0),
    "no heads": lambda c: c["model"]["network"].update(channels_per_head=0, attention_levels=[0]),
    "not a number": lambda c: c["model"]["network"].update(dropout=float("nan")),
    "a long schedule": lambda c: c["model"]["schedule"].update(steps=10**6),
    "no schedule": lambda c: c["model"]["schedule"].update(steps=0),
    "odd betas": lambda c: c["model"]["schedule"].update(s=-1.0, steps=50_000),
    "missing": lambda c: c["model"].pop("network"),
    "no names": lambda c: c.pop("names"),
    "a normalisation of nothing": lambda c: c.update(normalisation=None),
    "no state": lambda c: c["normalisation"].pop("state"),
    "a scale of texts": lambda c: c["normalisation"]["state"].update(input={"low": "0", "high": "1"}),
    "a scale upside down": lambda c: c["normalisation"]["state"].update(input={"low": 1.0, "high": 0.0}),
    "bounds of one": lambda c: c["normalisation"]["state"].update(target_bounds=[1]),
    "inputs of nothing": lambda c: c.update(inputs={"noise": []}),
    "inputs of texts": lambda c: c["inputs"].update(noise=["a"]),
    "a text for a size": lambda c: c.update(pixel_size_um="large"),
    "a tensor": lambda c: c.update(config={"a": torch.zeros(3)}),
    "numbers as keys": lambda c: c["names"].update({3: 4}),
    "a long text": lambda c: c["names"].update(model="x" * 10**6),
    "a deep U-Net": lambda c: c["model"].update(network={**UNET, "depth": 10**6}),
    "a deep generator": lambda c: c["model"].update(network={**PIX2PIX, "num_downs": 10**6}),
    "a wide window": lambda c: c.update(model={**N2V, "optimizer": c["model"]["optimizer"], "radius": 10**6}),
    "a wide structure": lambda c: c.update(
        model={
            **N2V,
            "optimizer": c["model"]["optimizer"],
            "structure": {"span": 999_999, "orientation": "square"},
        }
    ),
    "models in models": lambda c: c.update(model=nested(c["model"])),
}


def nested(model, levels=40):
    for _ in range(levels):
        model = {"_target_": "ddpm_lightning.models.pmrf.PMRF", "regression": model}
    return model


@pytest.mark.parametrize("name", CARDS)
def test_malformed_cards(original, tmp_path, name):
    content = {**original, "card": json.loads(json.dumps(original["card"]))}
    CARDS[name](content["card"])
    torch.save(content, tmp_path / "bad.ckpt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as refusal:
        load(tmp_path / "bad.ckpt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB
    text = str(refusal.value)
    assert "bad.ckpt" in text and "memory" not in text and len(text) < 2000


@pytest.mark.parametrize(
    "card", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "NaN", '"x"', "{", '{"model": {}, "format": 1}']
)
def test_malformed_cards_of_packed_models(tmp_path, card):
    save_file({"a": torch.zeros(3)}, tmp_path / "bad.safetensors", metadata={"card": card})
    with pytest.raises(UserError, match=r"bad\.safetensors"):
        load(tmp_path / "bad.safetensors")


WEIGHTS = {
    "none": lambda w: None,
    "a list": lambda w: [1, 2],
    "numbers": lambda w: {name: 1.0 for name in w},
    "one number for many": lambda w: {n: torch.zeros(()).expand(10**6, 10**6) for n in w},
    "sparse": lambda w: {**w, next(iter(w)): torch.zeros(10, 10).to_sparse()},
    "complex": lambda w: {n: t.to(torch.complex64) for n, t in w.items()},
    "on the device meta": lambda w: {n: t.to("meta") for n, t in w.items()},
    "another shape": lambda w: {n: t[None] for n, t in w.items()},
    "more of them": lambda w: {**w, "more": torch.zeros(1)},
    "other names": lambda w: {f"x.{n}": t for n, t in w.items()},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_malformed_weights(original, tmp_path, name):
    torch.save({**original, "state_dict": WEIGHTS[name](original["state_dict"])}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad\.ckpt: (is damaged|has weights|cannot be read)"):
        load(tmp_path / "bad.ckpt")


def repacked(source, target, change=lambda name, data: data, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_files_that_unpack_to_more_than_they_are(original, tmp_path):
    good, bad = tmp_path / "good.ckpt", tmp_path / "bad.ckpt"
    torch.save(original, good)
    repacked(
        good, bad, lambda name, data: bytes(10**8) if name.endswith("/data/0") else data, zipfile.ZIP_DEFLATED
    )
    assert bad.stat().st_size < 10**7
    with pytest.raises(UserError, match="cannot be read"):
        load(bad)
    with zipfile.ZipFile(good) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        place = largest.header_offset + largest.file_size // 2
    content = bytearray(good.read_bytes())
    content[place] ^= 1  # a bit that turned over
    bad.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load(bad)
    # Storages that claim to be larger than what the file holds of them.
    repacked(good, bad, lambda name, data: data[:-4] if name.endswith("/data/0") else data)
    with pytest.raises(UserError):
        load(bad)
    repacked(good, bad)
    assert load(bad).method


SHORT = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory"),
    OSError(12, "Cannot allocate memory"),
)


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["reading", "building", "weights", "device"])
def test_short_memory_is_not_called_damage(original, tmp_path, monkeypatch, error, place):
    path = tmp_path / "good.ckpt"
    torch.save(original, path)

    def fail(*arguments, **keywords):
        raise error

    owner, name = {
        "reading": (reading.torch, "load"),
        "building": (module, "build"),
        "weights": (torch.nn.Module, "load_state_dict"),
        "device": (torch.nn.Module, "to"),
    }[place]
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(UserError, match=r"^memory: does not suffice to load .*good\.ckpt") as said:
        load(path)
    assert "damaged" not in str(said.value)


def test_short_memory_inside_of_a_constructor_is_not_called_a_wrong_setting(original, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise SHORT[2]

    path = tmp_path / "good.ckpt"
    torch.save(original, path)
    monkeypatch.setattr("ddpm_lightning.networks.mp_unet.MPUNet.__init__", fail)
    with pytest.raises(UserError, match=r"^memory: "):
        load(path)
