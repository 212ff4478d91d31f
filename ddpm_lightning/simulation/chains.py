r"""Worm-like chains: the shape of a stiff filament under thermal fluctuations.

In two dimensions the direction :math:`\theta` of a chain with persistence length :math:`L_p` performs a random walk
along the contour, :math:`\theta(s + ds) - \theta(s) \sim N(0, ds / L_p)`, so the correlation of its tangents decays as

.. math:: \langle \cos(\theta(s + \ell) - \theta(s)) \rangle = \exp(-\ell / 2 L_p).

References:
    Flexural rigidity of microtubules and actin filaments measured from thermal fluctuations in shape (Gittes
    et al., 1993), J. Cell Biol. 120, 923.
"""

import numpy as np


def worm_like_chains(
    rng: np.random.Generator,
    starts: np.ndarray,
    headings: np.ndarray,
    length: float,
    step: float,
    persistence: float,
) -> np.ndarray:
    """Grows chains of equal length.

    All lengths are in the same unit.

    Args:
        rng: Source of randomness.
        starts: First points with shape (N, 2), as (row, column).
        headings: First directions in radians with shape (N,).
        length: Contour length of every chain.
        step: Distance between neighbouring points.
        persistence: Persistence length.

    Returns:
        Points with shape (N, P, 2), P = length / step + 1.
    """
    count = max(int(round(length / step)), 1)
    turns = rng.normal(0.0, np.sqrt(step / persistence), (len(starts), count))
    turns[:, 0] = 0.0
    angles = np.asarray(headings)[:, None] + np.cumsum(turns, axis=1)
    moves = step * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    points = np.concatenate([np.asarray(starts, float)[:, None], moves], axis=1)
    return np.cumsum(points, axis=1)


def pieces_inside(chain: np.ndarray, size: int) -> list[np.ndarray]:
    """Returns the parts of a chain with shape (P, 2) that are within the field, each of two points or more."""
    inside = np.all((chain >= 0) & (chain <= size - 1), axis=1)
    borders = np.flatnonzero(np.diff(inside.astype(np.int8))) + 1
    stretches = np.split(chain, borders)
    return [s for s, keep in zip(stretches, inside[np.r_[0, borders]], strict=True) if keep and len(s) > 1]


def scatter_along(rng: np.random.Generator, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scatters points along chains as a Poisson process.

    Args:
        rng: Source of randomness.
        expected: Mean number of points on each segment with shape (N, P - 1); 0 for a segment without points.

    Returns:
        The chain that each point belongs to with shape (M,), and its position along it, in steps, with shape (M,).
    """
    owner, segment = np.nonzero(expected)
    counts = rng.poisson(expected[owner, segment])
    along = np.repeat(segment, counts) + rng.random(counts.sum())
    return np.repeat(owner, counts), along


def at(values: np.ndarray, owner: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Interpolates values at the points of chains, with shape (N, P, ...), at positions along them."""
    segment = np.minimum(along.astype(np.intp), values.shape[1] - 2)
    fraction = (along - segment).reshape(-1, *[1] * (values.ndim - 2))
    start = values[owner, segment]
    return start + fraction * (values[owner, segment + 1] - start)
