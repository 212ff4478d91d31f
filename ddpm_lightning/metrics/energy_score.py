r"""Energy score of windows: do the pixels of a sample vary together as they should?

For :math:`n` samples :math:`s_1, \dots, s_n` of a window of :math:`d` pixels with the true content :math:`y`,

.. math:: \frac{1}{\sqrt d} \Big( \frac{1}{n} \sum_i \lVert s_i - y \rVert
          - \frac{1}{2 n (n - 1)} \sum_{i \ne j} \lVert s_i - s_j \rVert \Big)

with the Euclidean norm. The root of :math:`d` gives the score the unit of the image; for windows of one pixel it is
the CRPS. Like the fair CRPS, its expectation does not depend on :math:`n`, and it is smallest for samples of the
posterior. The CRPS of single pixels cannot tell whether neighbouring pixels vary together as they should. The energy
score can, but the difference is small: white noise instead of noise that is smooth over a few pixels costs about 3 %.

References:
    Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007),
    https://doi.org/10.1198/016214506000001437
"""

import torch
from torch import Tensor

from ddpm_lightning.metrics.calibration import check_samples

__all__ = ["WINDOW", "energy_score"]

#: Side of the windows in pixels.
WINDOW = 8


def energy_score(*, samples: Tensor, target: Tensor, window: int = WINDOW) -> float:
    """Returns the fair energy score, mean over windows, in the unit of the image. Smaller is better.

    The windows do not overlap; pixels at the lower and right border that fill no window are left out, and a side
    shorter than a window is one window. A single sample has the mean root-mean-square error of the windows.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
        window: Side of the windows in pixels.
    """
    check_samples(samples, target, least=1)
    number, (height, width) = len(samples), samples.shape[-2:]
    rows, columns = min(window, height), min(window, width)
    truth = target.view(1, *samples.shape[1:])
    scores = []
    for top in range(0, height - rows + 1, rows):  # row by row: few distances are in memory at a time
        strip = torch.cat([image[..., top : top + rows, :].detach().double() for image in (samples, truth)])
        windows = strip.unfold(-1, columns, columns).permute(3, 0, 1, 2, 4).flatten(2)
        # The faster formula by scalar products cancels digits where samples are alike.
        distances = torch.cdist(windows, windows, compute_mode="donot_use_mm_for_euclid_dist")
        errors = distances[:, -1, :-1].mean(dim=1)
        between = distances[:, :-1, :-1].sum(dim=(1, 2)) / (2 * number * max(1, number - 1))
        scores.append((errors - between) / windows.shape[-1] ** 0.5)
    return torch.cat(scores).mean().item()
