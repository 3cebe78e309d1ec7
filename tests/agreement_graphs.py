"""Random laws of the user's own on arbitrary graphs: any class may become any other, in four ways."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jaxevo.custom import custom_model
from jaxevo.model import Model
from jaxevo.state import Rates
from tests.agreement_shapes import Setting, Shape, Tables


def graph_rates(params, levels, environment) -> Rates:
    """Any class may become any other: rows of tables, bent by the drugs."""
    row = {name: table[levels[0].astype(jnp.int32)] for name, table in params.items()}
    drug = environment.concentration
    effect = drug / (drug + row["ec50"])
    induced = 1 + jnp.sum(row["induction"] * effect)
    return Rates(
        birth_rate=row["birth"] * jnp.prod(1 - row["inhibition"] * effect),
        death_rate=row["death"] + jnp.sum(row["kill"] * effect),
        mutation_probability=row["mutation"] * induced,
        switching_rate=row["switching"] * induced,
        migration_rate=row["moving"],
        asymmetric_probability=row["asymmetric"],
        symmetric_probability=row["symmetric"],
    )


def graph_model(
    params: dict, reach: np.ndarray, num_classes: int, sites: Sequence[str], drugs: Sequence[str],
    is_both: bool, rates: Callable = graph_rates,
) -> Model:  # fmt: skip
    """A custom model in which every class may become every other, in all four ways.

    Args:
        params: tables [class, ...]; columns of steps are the changes -(n - 1) .. -1, 1 .. n - 1.
        reach: [site, drug] share of a level that reaches the site.
        num_classes: n.
        sites, drugs: names.
        is_both: the mutation convention.
        rates: the law.
    """
    steps = [("kind", change) for change in changes(num_classes)]
    model = custom_model(
        {"kind": num_classes - 1}, rates, params, mutations=steps, switches=steps,
        differentiations=steps, sites=sites, drugs=drugs,
        mutating_daughters="both" if is_both else "one",
    )  # fmt: skip
    return eqx.tree_at(lambda m: m.delivery.delivered_fraction, model, reach)


def changes(num_classes: int) -> list[int]:
    """Every change of level, without 0."""
    return [c for c in range(1 - num_classes, num_classes) if c]


def _sparse(rng, shape, low: float, high: float, density: float) -> np.ndarray:
    """Log-uniform numbers, most of them 0."""
    values = 10 ** rng.uniform(np.log10(low), np.log10(high), shape)
    return np.where(rng.random(shape) < density, values, 0.0)


def draw_graph(shape: Shape, setting: Setting, rng: np.random.Generator) -> tuple[Model, Tables]:
    """Tables at random, some entries for steps that leave the range of levels, and the twin's."""
    n, num_sites, num_drugs = len(shape.levels), len(shape.sites), shape.num_drugs
    steps = np.array(changes(n))
    num_steps = len(steps)
    mutation = _sparse(rng, (n, num_steps), 1e-3, 0.15, 0.4)
    asymmetric = _sparse(rng, (n, num_steps), 0.02, 0.3, 0.15)
    symmetric = _sparse(rng, (n, num_steps), 0.02, 0.3, 0.15)
    target = np.arange(n)[:, None] + steps
    inside = (target >= 0) & (target < n)
    total = (inside * (2 * mutation + asymmetric + symmetric)).sum(1, keepdims=True)
    shrink = np.minimum(1.0, 0.9 / np.maximum(total, 1e-9))
    params = {
        "birth": rng.uniform(0.2, 1.3, n) * (rng.random(n) < 0.9),
        "death": rng.uniform(0.05, 0.7, n) * (rng.random(n) < 0.9),
        "ec50": rng.uniform(0.2, 2.0, (n, num_drugs)),
        "inhibition": rng.uniform(0.0, 0.9, (n, num_drugs)),
        "kill": rng.uniform(0.0, 0.7, (n, num_drugs)),
        "induction": rng.uniform(0.0, 1.0 / num_drugs, (n, num_drugs)),
        "mutation": mutation * shrink,
        "switching": _sparse(rng, (n, num_steps), 0.01, 0.5, 0.3),
        "moving": rng.uniform(0.0, 0.5, (n, num_sites)) * (num_sites > 1),
        "asymmetric": asymmetric * shrink,
        "symmetric": symmetric * shrink,
    }
    reach = rng.uniform(0.1, 1.0, (num_sites, num_drugs))
    return graph(shape, setting, params, reach)


def graph(shape: Shape, setting: Setting, params: dict, reach: np.ndarray) -> tuple[Model, Tables]:
    """A custom model of some tables (see `graph_model`), and what they say on its schedule."""
    n = len(shape.levels)
    steps = np.array(changes(n))
    target = np.arange(n)[:, None] + steps
    inside = (target >= 0) & (target < n)
    model = graph_model(params, reach, n, shape.sites, shape.drugs, shape.is_both)
    outside = setting.level[:, None, :] * reach  # [segment, site, drug]
    effect = outside[:, :, None, :] / (outside[:, :, None, :] + params["ec50"])
    induced = 1 + (params["induction"] * effect).sum(-1)  # [segment, site, class]
    birth = params["birth"] * np.prod(1 - params["inhibition"] * effect, axis=-1)
    death = params["death"] + (params["kill"] * effect).sum(-1)
    num_sites = reach.shape[0]

    def spread(columns: np.ndarray, factor: np.ndarray) -> np.ndarray:
        table = np.zeros((*factor.shape[:2], n, n))
        for g, column in zip(*np.nonzero(inside), strict=True):
            table[:, :, g, g + steps[column]] = columns[g, column] * factor[:, :, g]
        return table

    moving = np.repeat(params["moving"][:, None, :], num_sites, axis=1)
    moving[:, np.arange(num_sites), np.arange(num_sites)] = 0
    as_class = lambda x: x.swapaxes(1, 2)  # noqa: E731
    ones = np.ones_like(induced)
    return model, Tables(
        as_class(birth), as_class(death), spread(params["mutation"], induced),
        spread(params["asymmetric"], ones), spread(params["symmetric"], ones),
        spread(params["switching"], induced), moving, np.ones(n),
    )  # fmt: skip
