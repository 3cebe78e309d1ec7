"""Patients: how a number of the study differs from one virtual patient to the next.

A number is its value in the study times f, where ln f = sigma z, z is standard normal and
sigma^2 = ln(1 + cv^2): f has median 1 and coefficient of variation cv. Between two bounds it is the
same law, given that f lies there; z is the quantile of one uniform number per patient and key. That
number is a digest of (seed, patient, key), so it depends on nothing else: not on how many patients
there are, nor on what varies besides.
"""

import hashlib
import math
from statistics import NormalDist

NORMAL = NormalDist()


def uniform(seed: int, patient: int, name: str) -> float:
    """A number in (0, 1) from 52 bits; never 0 or 1."""
    digest = hashlib.sha256(f"patient\n{seed}\n{patient}\n{name}".encode()).digest()
    return ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2.0**52


def factor(
    seed: int, patient: int, name: str, cv: float, above: float = 0.0, below: float = math.inf
) -> float:
    """The factor f of one patient.

    Args:
        seed: of the study.
        patient: index from 0.
        name: what varies.
        cv: coefficient of variation of the law without bounds, > 0.
        above, below: bounds on f, around 1.
    """
    sigma = math.sqrt(math.log1p(cv**2))
    lowest = NORMAL.cdf(math.log(above) / sigma) if above > 0 else 0.0
    highest = NORMAL.cdf(math.log(below) / sigma) if below < math.inf else 1.0
    rank = lowest + uniform(seed, patient, name) * (highest - lowest)
    return math.exp(sigma * NORMAL.inv_cdf(rank))
