"""A restorer that samples from a known posterior: everything about its samples can be computed beforehand."""

from types import SimpleNamespace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.image_scores import ImageScores, Scoring, score_images
from ddpm_lightning.inference.plane_restorer import Prepared

SIGMA = 10.0


class Posterior:
    """Pairs whose clean image is the low one plus noise of standard deviation SIGMA."""

    def __init__(self, images=4, side=96, seed=0, pixel_size=0.02):
        self.images, self.side, self.seed, self.pixel_size = images, side, seed, pixel_size

    def __len__(self):
        return self.images

    def __getitem__(self, index):
        rng = np.random.default_rng((self.seed, index))
        mean = gaussian_filter(rng.normal(0, 1, (self.side, self.side)), 3)
        mean = 100 + 20 * mean / mean.std()
        high = (mean + rng.normal(0, SIGMA, mean.shape)).astype(np.float32)
        name = f"{index:03d}"
        return Pair(mean.astype(np.float32), high, name, f"field {index}", self.pixel_size)


class GaussianRestorer:
    """Draws the low image plus noise; ``width`` 1 samples from the true posterior.

    ``antithetic`` samples come in pairs of antithetic noise. ``gain`` and ``offset`` are what it is wrong by.
    """

    def __init__(self, width=1.0, blur=0.0, antithetic=False, seed=1, gain=1.0, offset=0.0):
        self.width, self.blur, self.seed, self.gain, self.offset = width, blur, seed, gain, offset
        self.batch, self.trained = None, SimpleNamespace(mean="average", std_by_network=False)
        self.method = SimpleNamespace(antithetic=antithetic, deterministic=False)
        self.normalisation = PairNormalisation(FixedRange(0, 200), FixedRange(0, 200))

    def input_scale(self, plane):
        return self.normalisation.input.scale(plane)

    def prepared(self, plane):
        return Prepared(plane, 0)

    def numbers(self, samples):
        return range(samples)

    def sampler(self, plane, scale, image, neighbours=()):
        def samples(numbers, batch=None):
            for sample in self.samples(plane, len(numbers), image):
                yield torch.from_numpy(scale.normalise(sample))[None, None]

        return SimpleNamespace(samples=samples, posterior=lambda: None)

    def samples(self, plane, samples, image):
        rng = np.random.default_rng((self.seed, int(image)))
        noise = np.zeros_like(plane)
        for number in range(samples):
            opposite = self.method.antithetic and number % 2
            noise = -noise if opposite else rng.normal(0, SIGMA * self.width, plane.shape)
            if self.blur and not opposite:
                noise = gaussian_filter(noise, self.blur)
            yield (self.gain * (plane + noise) + self.offset).astype(np.float32)


def gaussian_scores(images=4, samples=15, side=96, seed=0, protocol="range", **settings) -> list[ImageScores]:
    """Scores images whose samples are known."""
    source, scoring = Posterior(images, side, seed), Scoring(protocol, samples=samples)
    return list(score_images(GaussianRestorer(**settings), source, scoring, range(images)))
