"""What is drawn is what was scored."""

import numpy as np
import pytest

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.image_scores import Scoring, score_images
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.reporting import selected_panels
from tests.trained import write_checkpoint


@pytest.mark.parametrize("protocol", ["range", "affine"])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_error_map_is_the_error_that_was_scored(protocol, samples, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    high = 40 * rng.gamma(2, 15, (40, 48)) + 300
    source = [Pair(rng.poisson(high / 100), high.astype(np.float32), "one", "field", 0.02)]
    restorer = Restorer.load(write_checkpoint(tmp_path / "best.ckpt"), "cpu", tile=None)
    drawn = []
    monkeypatch.setattr(selected_panels, "panel", lambda rows, *_: drawn.extend(rows))
    seen = selected_panels.SelectedPanels(tmp_path / "figures", "set", 1, 1)
    (scores,) = score_images(restorer, source, Scoring(protocol, samples=samples), [0], seen.add)
    psnr = next(row.values["psnr"] for row in scores.rows if row.estimator == "average")
    (images,) = drawn
    low, black_to_white = (scores.rows[0].facts[name] for name in ("low", "data_range"))
    assert low == pytest.approx(high.min() if protocol == "range" else np.percentile(high, 0.1), rel=1e-3)
    found = 20 * np.log10(black_to_white / np.sqrt(np.square(images["error"]).mean()))
    assert found == pytest.approx(psnr, abs=1e-3)
    shown = images["average" if samples > 1 else "restored"]
    assert np.abs(shown - high) == pytest.approx(images["error"], rel=1e-4, abs=0.01)
