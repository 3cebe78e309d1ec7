"""Alterations, their levels, and the packing of a genotype into one uint32.

A genotype is the level n_j = 0..N_j of each alteration j. It packs as the mixed-radix number

    genotype = sum_j n_j * stride_j,    stride_0 = 1,  stride_{j+1} = stride_j * (N_j + 1),

so that genotypes 0 .. prod_j (N_j + 1) - 1 are dense (a packed genotype is also its row in every
table) and one step of alteration j adds or subtracts stride_j. Genotype 0 is unaltered.

Level n acts on a trait by `factor**n` (factors), `n * amount` (amounts) or `1 - (1 - share)**n`
(shares: n independent chances to escape).
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.state import Array, Traits

INHERITANCES = ("mutation", "amplification", "epigenetic", "hierarchy")
MAX_GENOTYPES = 2**32


class Step(NamedTuple):
    """One alteration moves by `change` levels: by +1 or -1, unless a custom law lists its own steps."""

    alteration: int
    change: int


class Changes(NamedTuple):
    """Everything that may change a cell's genotype, in the order of the arrays of `Rates`."""

    mutations: tuple[Step, ...]  # at a division, in one daughter or in each of the two
    switches: tuple[Step, ...]  # at a rate per day
    differentiations: tuple[Step, ...]  # at a division, in one daughter or in both alike


class Genome(eqx.Module):
    """All alterations of a study: what a level does, and how a cell gains and loses it.

    Units: rates 1/day, EC50 uM, probabilities per division. See `Traits` for the traits.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    max_levels: tuple[int, ...] = eqx.field(static=True)
    inheritances: tuple[str, ...] = eqx.field(static=True)
    # what one level does
    birth_cost: Float[Array, " alteration"]
    division_factor: Float[Array, " alteration"]
    natural_death_factor: Float[Array, " alteration"]
    radiation_factor: Float[Array, " alteration"]
    influx_factor: Float[Array, "alteration drug"]
    pump_amount: Float[Array, "alteration pump"]
    inactivation_rate: Float[Array, "alteration drug"]
    storage_ratio: Float[Array, "alteration drug"]
    activation_factor: Float[Array, "alteration drug"]
    kd_fold: Float[Array, "alteration drug"]
    target_copies: Float[Array, "alteration target"]
    lost_target: Float[Array, "alteration target"]
    bypass_share: Float[Array, "alteration target route"]
    repair_factor: Float[Array, " alteration"]
    evaded_share: Float[Array, " alteration"]
    mutation_factor: Float[Array, " alteration"]
    antigen_factor: Float[Array, " alteration"]
    ligand_share: Float[Array, " alteration"]
    # how it is gained and lost
    first_gain_probability: Float[Array, " alteration"]  # level 0 -> 1, per division
    gain_probability: Float[Array, " alteration"]  # level n -> n + 1, n >= 1
    loss_probability: Float[Array, " alteration"]  # amplification, n -> n - 1
    on_rate: Float[Array, " alteration"]  # epigenetic, n -> n + 1, 1/day
    off_rate: Float[Array, " alteration"]  # epigenetic, n -> n - 1, 1/day
    induced_on_rate: Float[Array, "alteration drug"]  # added at full induction, 1/day
    induced_off_rate: Float[Array, "alteration drug"]
    induction_ec50: Float[Array, "alteration drug"]  # uM
    asymmetric_probability: Float[Array, " alteration"]  # hierarchy, n -> n + 1, one daughter
    symmetric_probability: Float[Array, " alteration"]  # hierarchy, n -> n + 1, both daughters
    own_steps: Changes | None = eqx.field(static=True, default=None)  # of a custom law

    @property
    def num_genotypes(self) -> int:
        """Size of the genotype space, prod_j (N_j + 1)."""
        return math.prod(n + 1 for n in self.max_levels)

    @property
    def strides(self) -> tuple[int, ...]:
        """Weight of each alteration's level in the packed genotype."""
        return tuple(math.prod(n + 1 for n in self.max_levels[:j]) for j in range(len(self.names)))

    @property
    def steps(self) -> Changes:
        """All steps: those of the inheritances, unless a custom law lists its own."""
        if self.own_steps is not None:
            return self.own_steps
        changes = {
            "mutation": ("mutations", (+1,)),
            "amplification": ("mutations", (+1, -1)),
            "epigenetic": ("switches", (+1, -1)),
            "hierarchy": ("differentiations", (+1,)),
        }
        found: dict[str, list[Step]] = {kind: [] for kind in Changes._fields}
        for j, inheritance in enumerate(self.inheritances):
            kind, ways = changes[inheritance]
            found[kind] += [Step(j, change) for change in ways]
        return Changes(*(tuple(found[kind]) for kind in Changes._fields))

    @property
    def mutations(self) -> tuple[Step, ...]:
        """Steps that happen at a division, in the order of `Rates.mutation_probability`."""
        return self.steps.mutations

    @property
    def switches(self) -> tuple[Step, ...]:
        """Steps that happen at a rate per day, in the order of `Rates.switching_rate`."""
        return self.steps.switches

    @property
    def differentiations(self) -> tuple[Step, ...]:
        """Steps down the hierarchy, in the order of `Rates.asymmetric_probability`."""
        return self.steps.differentiations

    @classmethod
    def neutral(
        cls,
        names: tuple[str, ...],
        max_levels: tuple[int, ...],
        inheritances: tuple[str, ...],
        num_drugs: int,
        num_pumps: int,
        num_targets: int,
    ) -> "Genome":
        """Alterations that do nothing and never happen (float64 NumPy leaves), to be filled in."""
        a, d, p, t = len(names), num_drugs, num_pumps, num_targets
        ones, zeros = np.ones, np.zeros
        return cls(
            names=tuple(names),
            max_levels=tuple(max_levels),
            inheritances=tuple(inheritances),
            birth_cost=zeros(a),
            division_factor=ones(a),
            natural_death_factor=ones(a),
            radiation_factor=ones(a),
            influx_factor=ones((a, d)),
            pump_amount=zeros((a, p)),
            inactivation_rate=zeros((a, d)),
            storage_ratio=zeros((a, d)),
            activation_factor=ones((a, d)),
            kd_fold=ones((a, d)),
            target_copies=zeros((a, t)),
            lost_target=zeros((a, t)),
            bypass_share=zeros((a, t, t + 1)),
            repair_factor=ones(a),
            evaded_share=zeros(a),
            mutation_factor=ones(a),
            antigen_factor=ones(a),
            ligand_share=zeros(a),
            first_gain_probability=zeros(a),
            gain_probability=zeros(a),
            loss_probability=zeros(a),
            on_rate=zeros(a),
            off_rate=zeros(a),
            induced_on_rate=zeros((a, d)),
            induced_off_rate=zeros((a, d)),
            induction_ec50=ones((a, d)),
            asymmetric_probability=zeros(a),
            symmetric_probability=zeros(a),
        )


def pack(genome: Genome, levels: dict[str, int]) -> int:
    """The packed genotype with the named levels, all others 0.

    Raises:
        ValueError: an unknown alteration, or a level outside 0..N_j.
    """
    genotype = 0
    for name, level in levels.items():
        if name not in genome.names:
            raise ValueError(f"unknown alteration {name!r}; known are {', '.join(genome.names)}")
        j = genome.names.index(name)
        if not 0 <= level <= genome.max_levels[j]:
            raise ValueError(f"level of {name} must be 0 to {genome.max_levels[j]}, got {level}")
        genotype += level * genome.strides[j]
    return genotype


def unpack(genome: Genome, genotype):
    """Levels of packed genotypes: integers [...] -> integers [..., alteration] (NumPy or JAX)."""
    xp = jnp if isinstance(genotype, jnp.ndarray) else np
    rest = xp.asarray(genotype)
    levels = []
    for top in genome.max_levels[:-1]:
        size = xp.asarray(top + 1, rest.dtype)  # typed: 2**31 and above fit uint32, but no JAX int
        levels.append(rest % size)
        rest = rest // size
    levels += [rest] * bool(genome.names)  # what is left is the level of the last alteration
    return xp.stack(levels, axis=-1) if levels else xp.zeros((*rest.shape, 0), rest.dtype)


def label(genome: Genome, genotype: int) -> str:
    """A readable name of one genotype, such as `T790M + MET x3`; `unaltered` for genotype 0."""
    levels = unpack(genome, np.int64(genotype))
    parts = [
        name if top == 1 else f"{name} x{level}"
        for name, level, top in zip(genome.names, levels, genome.max_levels, strict=True)
        if level
    ]
    return " + ".join(parts) or "unaltered"


def traits(genome: Genome, levels: Float[Array, " alteration"]) -> Traits:
    """What one genotype makes of its cell: composes the levels of all alterations."""
    per_drug = levels[:, None]
    lost = jnp.max(genome.lost_target * jnp.minimum(per_drug, 1.0), axis=0, initial=0.0)
    escape = (1.0 - genome.bypass_share) ** levels[:, None, None]
    return Traits(
        levels=levels,
        birth_factor=jnp.prod((1.0 - genome.birth_cost) ** levels),
        division_factor=jnp.prod(genome.division_factor**levels),
        natural_death_factor=jnp.prod(genome.natural_death_factor**levels),
        radiation_factor=jnp.prod(genome.radiation_factor**levels),
        influx_factor=jnp.prod(genome.influx_factor**per_drug, axis=0),
        pump_amount=jnp.sum(genome.pump_amount * per_drug, axis=0),
        inactivation_rate=jnp.sum(genome.inactivation_rate * per_drug, axis=0),
        storage_ratio=jnp.sum(genome.storage_ratio * per_drug, axis=0),
        activation_factor=jnp.prod(genome.activation_factor**per_drug, axis=0),
        kd_fold=jnp.prod(genome.kd_fold**per_drug, axis=0),
        target_amount=1.0 + jnp.sum(genome.target_copies * per_drug, axis=0),
        dependence=1.0 - lost,
        bypass_share=1.0 - jnp.prod(escape, axis=0),
        repair_factor=jnp.prod(genome.repair_factor**levels),
        evaded_share=1.0 - jnp.prod((1.0 - genome.evaded_share) ** levels),
        mutation_factor=jnp.prod(genome.mutation_factor**levels),
        antigen_factor=jnp.prod(genome.antigen_factor**levels),
        ligand_share=1.0 - jnp.prod((1.0 - genome.ligand_share) ** levels),
    )
