"""The published layouts in miniature, with their true folder and file names, and a server to publish them."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy import ndimage

from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.datasets.preparation.build import Preparation
from ddpm_lightning.datasets.preparation.registration import Motion
from ddpm_lightning.datasets.simulated import SimulatedPairs

MICROTUBULES = "fixed_cell_microtubule_u2os_alphatubulin_star635p"
MITOCHONDRIA = "live_cell_mitochondria_u2os_tom20_halotag7_dm_sir"
NORMALISATION = PairNormalisation(FixedRange(), FixedRange())
#: What was planted in the microtubule patches, from points of the low image to points of the high one.
PLANTED = [Motion(2.3, -4.6, 0.7), Motion(-5.2, 1.7, -1.4), Motion(0.4, 3.1, 0.0)]


def png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(image))


def tif(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, photometric="minisblack")


def displaced(image: np.ndarray, motion: Motion) -> np.ndarray:
    """Returns the image that :func:`ddpm_lightning.datasets.preparation.registration.move` turns back into this one."""
    back = motion.matrix().T
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - back @ (centre + (motion.down, motion.right))
    moved = ndimage.affine_transform(image.astype(float), back, offset, order=3, mode="mirror")
    limits = np.iinfo(image.dtype)
    return np.clip(np.rint(moved), limits.min, limits.max).astype(image.dtype)


def blobs(seed: int, shape: tuple[int, ...], dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    """Returns a noisy and a clean image of blurred spots."""
    rng = np.random.default_rng(seed)
    clean = (
        ndimage.gaussian_filter((rng.random(shape) < 0.01) * 400.0, (0,) * (len(shape) - 2) + (2, 2)) * 8 + 6
    )
    scale = 40 if dtype == "uint16" else 1
    high = np.clip(clean * scale, 0, np.iinfo(dtype).max).astype(dtype)
    return rng.poisson(clean / 5).astype(dtype), high


def write_microtubules(root: Path, size: int = 256) -> Path:
    """Four and two patches, whose clean images were displaced by one of the planted motions.

    At the usual dose, 0.2 photons per pixel, noise alone causes an error of 0.11 px in the worst of 18 patches of
    256 px. The dose is three times that, so that the motion can be measured to a tenth of a pixel.
    """
    pairs = SimulatedPairs("microtubules", "test", 6, size, dose=3.0, extras=False)
    folder = root / MICROTUBULES
    for number in range(6):
        place = folder / ("training_data" if number < 4 else "test_data")
        pair, motion = pairs[number], PLANTED[number % 3]
        png(place / "low_intensity_image_patches" / f"{number}.png", pair.low.astype(np.uint8))
        high = displaced(np.clip(pair.high, 0, 255).astype(np.uint8), motion)
        png(place / "ground_truth_image_patches" / f"{number}.png", high)
    return folder


def write_mitochondria(root: Path, size: int = 150) -> Path:
    folder = root / MITOCHONDRIA
    for number in range(7):
        low, high = blobs(number, (1, size, size), "uint16")
        place = folder / f"test_and_training_data_{1 + number // 4}"
        tif(place / "low_intensity_images" / f"cell_{number:02d}.tif", low)
        tif(place / "ground_truth_images" / f"cell_{number:02d}.tif", high)
    return folder


def write_synapses(root: Path, size: int = 140) -> Path:
    """Four volumes of three slices; all clean slices of a volume are displaced alike."""
    folder = root / "XTC"
    for number in range(4):
        low, high = blobs(number, (3, size, size))
        high = np.stack([displaced(plane, Motion(1.6, -2.2)) for plane in high])
        tif(folder / "low" / f"volume_{number}.tif", low)
        tif(folder / "GT" / f"volume_{number}.tif", high)
    return folder


def write_zebrafish(root: Path, size: int = 128, fields: int = 20, captures: int = 2) -> Path:
    folder = root / "Confocal_FISH"
    for field in range(1, fields + 1):
        rng = np.random.default_rng(field)
        _, high = blobs(field, (size, size))
        png(folder / "gt" / str(field) / "avg50.png", high)
        for capture in range(captures):
            low = rng.poisson(high / 5.0).clip(0, 255).astype(np.uint8)
            png(folder / "raw" / str(field) / f"HV110_P050051{capture:04d}.png", low)
    return folder


def write_release(root: Path, low: str = "low_padded", high: str = "high_registered") -> Path:
    """The layout that the code of the paper reads."""
    folder = root / "microtubule"
    for seed, (split, count) in enumerate({"train": 3, "validate": 1, "test": 2}.items()):
        for number in range(count):
            noisy, clean = blobs(10 * seed + number, (64, 64))
            tif(folder / split / low / f"{number:05d}.tif", noisy)
            tif(folder / split / high / f"{number:05d}.tif", clean)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """Packs a folder under its own name, always into the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.writestr(
                    zipfile.ZipInfo(file.relative_to(folder.parent).as_posix()), file.read_bytes()
                )
    return path


def preparation(**settings: object) -> Preparation:
    return Preparation(**{"size": 64, **settings})


def tree(root: Path) -> dict[str, str]:
    """Returns the hash of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on loopback, with ranges and entity tags, as badly as asked.

    Attributes:
        asked: The range that each request asked for, "" for the whole file.
        cut: Number of bytes after which a connection breaks off, in all of the coming requests; ``None`` for never.
        cuts: How many connections still break off.
        version: Part of the entity tag: another one tells that the file was replaced.
        spoil: Changes the content of each file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.version = folder, [], "1"
        self.cut, self.cuts = None, 0
        self.spoil: Callable[[bytes], bytes] = lambda content: content
        self.kind = "application/octet-stream"
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, tag, start = self.server.spoil(path.read_bytes()), f'"{self.server.version}"', 0
        if asked and self.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", self.server.kind)
        self.send_header("ETag", tag)
        self.end_headers()
        rest = content[start:]
        if self.server.cuts:
            self.server.cuts -= 1
            rest = rest[: self.server.cut]
        self.wfile.write(rest)
        self.close_connection = True
