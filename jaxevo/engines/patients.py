"""Patients: how a number of the study differs from one virtual patient to the next.

A number is its value in the study times f, where ln f = sigma z, z is standard normal and
sigma^2 = ln(1 + cv^2): f has median 1 and coefficient of variation cv. Between two bounds it is the
same law, given that f lies there. Numbers that vary together have a Gaussian copula: z = L w, with L the
Cholesky factor of the matrix of correlations of their z, and w independent.

Each patient and each number that varies (a *name*) has a rank u = Phi(w) in (0, 1):

    random   a digest of (seed, patient, name): it depends on nothing else, not on how many patients
             there are, nor on what varies besides
    sobol    point i of a Sobol sequence, one dimension for each name in alphabetical order, its binary
             digits flipped where those of a digest of (seed, name) are 1 (a random digital shift, which
             makes every point uniform and keeps the sequence evenly spread; L'Ecuyer & Lemieux 2002,
             doi:10.1007/0-306-48102-2_20); it depends on the seed, i and the names alone
"""

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

NORMAL = NormalDist()
SAMPLINGS = ("random", "sobol")
DIGITS = 30  # of a Sobol point, binary


def uniform(seed: int, patient: int, name: str) -> float:
    """A number in (0, 1) from 52 bits; never 0 or 1."""
    return ((_digest(f"patient\n{seed}\n{patient}\n{name}") >> 12) + 0.5) / 2.0**52


def _digest(text: str) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def ranks(
    seed: int, count: int, names: Sequence[str], sampling: str = "random"
) -> Float[np.ndarray, "patient name"]:
    """The rank of every patient in every number that varies, in (0, 1), independent of each other."""
    if sampling == "sobol" and names:
        return _sobol(seed, count, names)
    found = [[uniform(seed, i, name) for name in names] for i in range(count)]
    return np.array(found, float).reshape(count, len(names))


def _sobol(seed: int, count: int, names: Sequence[str]) -> Float[np.ndarray, "patient name"]:
    from scipy.stats import qmc  # noqa: PLC0415

    ordered = sorted(names)
    sequence = qmc.Sobol(len(ordered), scramble=False, bits=DIGITS)
    points = sequence.random_base2(max(count - 1, 0).bit_length())[:count]
    shift = np.array([_digest(f"sobol\n{seed}\n{name}") >> (64 - DIGITS) for name in ordered])
    digits = (points * 2.0**DIGITS).astype(np.int64) ^ shift
    return ((digits + 0.5) / 2.0**DIGITS)[:, [ordered.index(name) for name in names]]


def correlated(
    ranks: Float[np.ndarray, "patient name"], correlation: Float[np.ndarray, "name name"]
) -> Float[np.ndarray, "patient name"]:
    """Ranks with a Gaussian copula, from independent ones.

    Args:
        ranks: independent, in (0, 1).
        correlation: of the normal quantiles of the ranks; positive definite, 1 on its diagonal.
    """
    root = np.linalg.cholesky(correlation)
    normal = np.vectorize(NORMAL.inv_cdf, otypes=[float])(ranks)
    # sums in a fixed order, so that a patient does not depend on how many there are
    mixed = np.zeros_like(normal)
    for j, row in enumerate(root):
        for k in range(j + 1):
            mixed[:, j] += row[k] * normal[:, k]
    return np.vectorize(NORMAL.cdf, otypes=[float])(mixed)


def factor(rank: float, cv: float, above: float = 0.0, below: float = math.inf) -> float:
    """The factor f of one patient.

    Args:
        rank: of the patient, in (0, 1): the share of patients with a smaller factor.
        cv: coefficient of variation of the law without bounds, > 0.
        above, below: bounds on f, around 1.
    """
    sigma = math.sqrt(math.log1p(cv**2))
    lowest = NORMAL.cdf(math.log(above) / sigma) if above > 0 else 0.0
    highest = NORMAL.cdf(math.log(below) / sigma) if below < math.inf else 1.0
    return math.exp(sigma * NORMAL.inv_cdf(lowest + rank * (highest - lowest)))
