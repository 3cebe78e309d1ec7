"""Host: what a treatment does to the marrow of ONE patient.

Draft of the interface; see the issue.
"""

import equinox as eqx
from jaxtyping import Float

from jaxevo.state import Array, Scalar


class HostParams(eqx.Module):
    """Marrow of one patient (Friberg et al. 2002, doi:10.1200/JCO.2002.02.140)."""

    baseline: Scalar  # circulating neutrophils without treatment, 1e9/L
    transit_days: Scalar  # mean maturation time, days
    feedback: Scalar  # gamma, power of the feedback from blood to marrow
    slope: Float[Array, " drug"]  # loss of proliferation per uM in blood, 1/uM
    marrow_pump: Float[Array, " pump"]  # pumps of a normal progenitor, multiples of vmax
    transduced_share: Scalar  # progenitors that carry a transduced pump, 0..1
    transduced_pump: Float[Array, " pump"]  # pumps that those have beyond the normal ones
    growth_gain: Float[Array, " drug"]  # of proliferation and maturation at saturation (G-CSF)
    growth_half: Float[Array, " drug"]  # uM at half of that, > 0


class HostState(eqx.Module):
    """Cells of the marrow and of blood, 1e9/L, and what is remembered."""

    proliferating: Scalar
    transit: Float[Array, " 3"]
    circulating: Scalar
    lowest: Scalar  # smallest circulating count so far
    grade_days: Float[Array, " 5"]  # days so far in CTCAE grade 0, 1, 2, 3, 4
