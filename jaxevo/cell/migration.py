"""Migration: ONE cell leaves its site for another, at rates per day that the site states."""

from jaxtyping import Float

from jaxevo.state import Array, Environment, Traits


def migration_rate(traits: Traits, environment: Environment) -> Float[Array, " site"]:
    """Rate of moving to each other site, 1/day; every genotype moves alike."""
    del traits
    return environment.migration_rate
