"""Weights of checkpoints: read without executing code, and compared with the model before memory is allocated.

A few lines can describe a model that needs more memory or time than is available. Therefore the model is first built on
PyTorch's device ``meta``, where tensors have a shape but no memory, and building stops as soon as the model has more
weights than the file.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from ddpm_lightning.utils.atomic import is_intact_zip
from ddpm_lightning.utils.errors import UserError, is_out_of_memory

__all__ = ["check_fit", "checked_weights", "limited_to", "read_weights"]

#: Maximum number of modules of a network: per tensor in the file, plus a constant.
MODULES_PER_TENSOR, MODULES = 20, 1000
#: Descriptions in a BioImage.IO package.
PACKAGED = {"rdf.yaml", "bioimageio.yaml"}


def read_weights(path: Path) -> Any:
    """Reads a Lightning checkpoint: tensors and plain containers, never code.

    Raises:
        UserError: If it is damaged, or contains anything else.
    """
    unreadable = UserError(
        path,
        "cannot be read as a checkpoint: it is damaged, or contains more than tensors and plain containers",
        remedy="copy it again from its run; code in checkpoints is never executed",
    )
    if is_zipfile(path):
        with suppress(BadZipFile, OSError), ZipFile(path) as file:
            if not PACKAGED.isdisjoint(file.namelist()):
                raise UserError(
                    path,
                    "is a BioImage.IO package, which is for other programs",
                    allowed="a checkpoint, or a file NAME.safetensors",
                    remedy="pass the checkpoint that it was exported from, or export that with "
                    "output=NAME.safetensors",
                )
    try:
        # A compressed file of a megabyte can unpack to a gigabyte; PyTorch never compresses.
        if not is_intact_zip(path):
            raise unreadable
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files cause many different errors
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.filename):
            raise
        if error is unreadable:
            raise
        raise unreadable from error


def checked_weights(weights: Any, path: Path) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint if they are named tensors that are fully stored in the file.

    Raises:
        UserError: If they are anything else.
    """
    if not isinstance(weights, Mapping):
        raise UserError(path, "is damaged, or was not written by this program: it contains no named weights")
    for name, tensor in weights.items():
        plain = isinstance(name, str) and type(tensor) in (Tensor, nn.Parameter)
        plain = plain and tensor.layout == torch.strided and tensor.device.type == "cpu"
        plain = plain and not (tensor.is_quantized or tensor.is_complex())
        # A view could repeat one number a million times.
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(
                path,
                f"is damaged, or was not written by this program: {str(name)[:80]} is not an array of numbers",
            )
    return dict(weights)


@contextmanager
def limited_to(weights: Mapping[str, Tensor], path: Path) -> Iterator[None]:
    """Stops building a model as soon as it has more weights than the file.

    Raises:
        UserError: If it has.
    """
    left = {"numbers": sum(tensor.numel() for tensor in weights.values()), "tensors": len(weights)}
    left["modules"] = MODULES_PER_TENSOR * left["tensors"] + MODULES

    def count(name: str, number: int) -> None:
        left[name] -= number
        if left[name] < 0:
            raise UserError(
                path,
                "has weights that do not fit its own model, which is larger",
                remedy="copy it again from its source",
            )

    def parameter(module: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            count("numbers", value.numel())
            count("tensors", 1)

    def submodule(module: nn.Module, name: str, value: Any) -> None:
        count("modules", 1)

    handles = [
        hooks.register_module_parameter_registration_hook(parameter),
        hooks.register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raises a UserError if names or shapes of the weights of a model differ from those of the file.

    Args:
        model: The model, possibly on the device ``meta``.
        weights: Weights of the file.
        path: The file.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted == found:
        return
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    name = differing[0]
    sides = (
        "no such weights" if shape is None else " x ".join(map(str, shape)) or "a number"
        for shape in (found.get(name), wanted.get(name))
    )
    raise UserError(
        path,
        "has weights that do not fit its own model: {} has {} in the file and {} in the model".format(
            name, *sides
        )
        + (f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""),
        remedy="copy it again from its source",
    )
