import numpy as np
import pytest
import torch
from scipy import stats

from ddpm_lightning.diffusion.ensemble import Ensemble


@pytest.fixture
def samples():
    return torch.randn(15, 1, 1, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3


def filled(samples, **settings):
    ensemble = Ensemble(**settings)
    for sample in samples:
        ensemble.update(sample)
    return ensemble


def test_streamed_statistics_equal_numpy(samples):
    ensemble, values = filled(samples), samples.numpy()
    np.testing.assert_allclose(ensemble.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(ensemble.std, values.std(0), rtol=1e-10)
    np.testing.assert_allclose(ensemble.standard_error, stats.sem(values, axis=0), rtol=1e-10)


def test_the_streamed_std_survives_a_large_offset(samples):
    np.testing.assert_allclose(filled(samples + 1e6).std, samples.numpy().std(0), rtol=1e-6)


def test_entropy_equals_scipy(samples):
    entropy = filled(samples, entropy_range=(-1, 1)).entropy
    values = np.clip(np.round((samples.numpy() + 1) / 2 * 255), 0, 255).astype(int)
    for place in np.ndindex(values.shape[1:]):
        counts = np.unique(values[(slice(None), *place)], return_counts=True)[1]
        assert entropy[place].item() == pytest.approx(stats.entropy(counts), abs=1e-12)


def test_entropy_is_zero_where_samples_agree_and_log_n_where_none_do():
    same, different = (
        torch.zeros(15, 1, 1, 2, 2),
        torch.linspace(-1, 1, 15).reshape(15, 1, 1, 1, 1).expand(15, 1, 1, 2, 2),
    )
    assert filled(same, entropy_range=(-1, 1)).entropy.abs().max() == 0
    assert filled(different, entropy_range=(-1, 1)).entropy.min().item() == pytest.approx(np.log(15))


def test_what_needs_more_samples_says_so(samples):
    with pytest.raises(ValueError, match="0 samples seen, at least 1 needed"):
        _ = Ensemble(entropy_range=(0, 1))._at_least(1)
    with pytest.raises(ValueError, match="1 samples seen, at least 2 needed"):
        _ = filled(samples[:1]).standard_error
    with pytest.raises(ValueError, match="entropy_range"):
        _ = filled(samples).entropy
    with pytest.raises(ValueError, match="shape"):
        filled(samples).update(torch.zeros(3, 3))
