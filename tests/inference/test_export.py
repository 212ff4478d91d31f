"""The exported file restores as the restorer does, at any size, and is a file that anybody can load."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.data.normalise import Percentile
from ddpm_lightning.inference.bioimage import sample_of
from ddpm_lightning.inference.export import RestorationModule, save, scale_of, traced
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.utils.errors import UserError
from tests.trained import a_calibration, write_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("error::torch.jit.TracerWarning"),
]


#: Two networks, of which one belongs to a method inside of the method.
FLOW = ["model=residual_flow_small", "model.network.base=8", "model.sampler.steps=2"]
FLOW += ["model.regression.network.base=8", "model.regression.network.multipliers=[1,2]"]


def noisy(*shape):
    return np.random.default_rng(1).poisson(30, shape).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "per_image"), [([], False), (FLOW, True)])
def test_the_file_does_what_the_restorer_does_at_any_size(tmp_path, model, per_image):
    path = write_checkpoint(tmp_path / "best.ckpt", *model, per_image=per_image)
    trained = load(path, preset="stored")
    if model:
        trained.method.sigma.fill_(0.2)  # which training would have measured
        own = {"sampling": trained.sampling, "sampler": trained.sampler, "samples": 3}
        trained.card["calibrations"] = [a_calibration(**own, std_factor=2.5).model_dump()]
    module = traced(RestorationModule(trained, samples=3, seed=4), torch.from_numpy(noisy(1, 1, 48, 64)))
    save(module, tmp_path / "weights.pt")
    loaded = torch.jit.load(str(tmp_path / "weights.pt"))
    restorer = Restorer(trained, seed=4, margin=16)
    for shape in ((48, 64), (80, 40)):
        image = noisy(*shape)
        expected = restorer.restore(image, 3)
        mean, std = (value.numpy()[0, 0] for value in loaded(torch.from_numpy(image)[None, None]))
        np.testing.assert_allclose(mean, expected.mean, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(std, expected.std, rtol=1e-3, atol=1e-3)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("blur", [0.0, 1.3])
def test_percentiles_are_those_of_numpy_and_scipy(blur):
    normaliser = Percentile(1.0, 99.7, per_image=True, blur=blur)
    normaliser.fit([noisy(64, 64)])
    image = noisy(50, 70)
    blurred = ndimage.gaussian_filter(image, blur, mode="nearest") if blur else image
    low, high = scale_of(normaliser, torch.from_numpy(image)[None, None])
    np.testing.assert_allclose([low, high], np.percentile(blurred, (1.0, 99.7)), rtol=1e-5)
    flat = torch.full((1, 1, 40, 40), 7.0)
    low, high = scale_of(normaliser, flat)
    assert low == pytest.approx(7) and high > low
    scale = normaliser.scale(image, 0.1)
    assert scale.high > np.percentile(blurred, 99.7) + 1
    np.testing.assert_allclose(
        scale_of(normaliser, torch.from_numpy(image)[None, None], 0.1), [scale.low, scale.high], 1e-5
    )


def test_a_filter_outside_of_torch_is_refused(tmp_path):
    trained = load(write_checkpoint(tmp_path / "best.ckpt"))
    type(trained.method).__module__, kept = "ddpm_lightning.models.classical", type(trained.method).__module__
    try:
        with pytest.raises(UserError, match="runs outside PyTorch"):
            traced(RestorationModule(trained, 1), torch.zeros(1, 1, 32, 32))
    finally:
        type(trained.method).__module__ = kept


def test_the_sample_is_the_middle_of_an_image():
    image = np.arange(300 * 90.0).reshape(300, 90)
    sample = sample_of(image, 8)
    assert sample.shape == (1, 1, 256, 88) and sample.dtype == np.float32
    assert np.array_equal(sample[0, 0], image[22:278, 1:89])
    with pytest.raises(UserError, match="30 x 300 pixels"):
        sample_of(np.zeros((30, 300)), 8)
