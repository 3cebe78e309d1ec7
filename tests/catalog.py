"""The catalog of configs/studies, read as tables: what of the biology each study uses.

`BIOLOGY` says for every way past a drug, every place where cells live and everything a physician can do
what a study must hold to use it. A claim reads the resolved study, and asks for an effect rather than a
word: a pump must have a substrate that some arm gives, a repaired damage a drug that does it.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

from jaxevo import load_study

STUDIES = Path(__file__).parent.parent / "configs" / "studies"
FILES = sorted(STUDIES.glob("*.toml"))
LONG_CYCLE = 14  # days; a dose of a cycle as long as this is no daily one

Table: TypeAlias = dict[str, Any]


class Used:
    """A resolved study, as far as claims ask for it."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.table: Table = load_study(path).resolved()

    def tables(self, kind: str) -> list[Table]:
        """All tables of one kind, such as sites."""
        return list(self.table.get(kind, {}).values())

    @cached_property
    def arms(self) -> list[Table]:
        """The arms."""
        return self.table["arms"]

    def rows(self, arm: Table) -> list[Table]:
        """What an arm may give: its own doses and those of its lines."""
        return [*arm["doses"], *(row for line in arm["lines"] for row in line["doses"])]

    @cached_property
    def doses(self) -> list[Table]:
        """What any arm may give."""
        return [row for arm in self.arms for row in self.rows(arm)]

    @cached_property
    def given(self) -> set[str]:
        """Drugs that some arm may give."""
        return {row["drug"] for row in self.doses}

    @cached_property
    def rules(self) -> dict[str, Table]:
        """Policies and safety rules of all arms, by name."""
        found = [arm[key] for arm in self.arms for key in ("policy", "safety") if key in arm]
        return {rule["rule"]: rule for rule in found}

    def altered(self, mechanism: str) -> list[Table]:
        """Alterations with this mechanism."""
        return [table for table in self.tables("alterations") if table["mechanism"] == mechanism]

    def drugs(self, names: Any) -> list[Table]:
        """The tables of those drugs among `names` that are given."""
        return [self.table["drugs"][name] for name in names if name in self.given]

    def acting(self, **keys: Any) -> bool:
        """Whether a drug that is given has a target with these values."""
        targets = {name for drug in self.drugs(self.given) for name in drug["kd_um"]}
        return any(
            all(self.table["targets"][name][key] == value for key, value in keys.items())
            for name in targets
        )

    def binds(self, target: str | None) -> list[Table]:
        """Drugs that are given and bind a target."""
        return [drug for drug in self.drugs(self.given) if target in drug["kd_um"]]


Claim: TypeAlias = Callable[[Used], bool]


# --- ways past a drug ------------------------------------------------------------------------------


def loses_uptake(study: Used) -> bool:
    return any(
        drug["carrier_share"] > 0
        for table in study.altered("reduced_uptake")
        for drug in study.drugs(table["influx_factor"])
    )


def pumps_out(study: Used) -> bool:
    """One pump, two substrates, an inhibitor."""
    pumps = [study.table["pumps"][table["pump"]] for table in study.altered("efflux")]
    return any(
        len(study.drugs(pump["vmax_um_per_h"])) >= 2 and study.drugs(pump["inhibited_by_ki_um"])
        for pump in pumps
    )


def acts_on_given(mechanism: str, key: str) -> Claim:
    """An alteration that names a drug which is given."""
    return lambda study: any(study.drugs(table[key]) for table in study.altered(mechanism))


def loses_activation(study: Used) -> bool:
    return any(
        drug["prodrug"]
        for table in study.altered("lost_activation")
        for drug in study.drugs(table["activation_factor"])
    )


def has_folds(study: Used) -> bool:
    """Two mutations, two drugs."""
    folds = [table["kd_fold"] for table in study.altered("altered_target")]
    return len(folds) >= 2 and len({name for fold in folds for name in fold} & study.given) >= 2


def on_bound_target(mechanism: str, key: str = "target", **of_drug: Any) -> Claim:
    """An alteration of a target that a drug which is given binds."""
    return lambda study: any(
        all(drug[name] == value for name, value in of_drug.items())
        for table in study.altered(mechanism)
        for drug in study.binds(table.get(key))
    )


def switches(study: Used) -> bool:
    """An epigenetic switch that a drug which is given turns."""
    return any(
        study.drugs(table["induction_ec50_um"])
        for table in study.tables("alterations")
        if table["inheritance"] == "epigenetic"
    )


def rests(study: Used) -> bool:
    """Cells that rest, and a drug which misses them."""
    return bool(study.altered("quiescence")) and study.acting(cycle_specific=True)


# --- where cells live ------------------------------------------------------------------------------


def at_site(key: str, holds: Callable[[Any], bool]) -> Claim:
    """A site whose key is so; of a table, for some drug."""
    values = lambda value: value.values() if isinstance(value, dict) else [value]  # noqa: E731
    return lambda study: any(any(map(holds, values(site[key]))) for site in study.tables("sites"))


def has_barrier(study: Used) -> bool:
    """A barrier with a pump, a substrate that is given, an inhibitor that is given."""
    pumps = [
        study.table["pumps"][name]
        for site in study.tables("sites")
        for name in site.get("barrier", {}).get("pump", {})
    ]
    return any(
        study.drugs(pump["vmax_um_per_h"]) and study.drugs(pump["inhibited_by_ki_um"])
        for pump in pumps
    )


def migrates(study: Used) -> bool:
    """Cells move, and sites have room for so many."""
    sites = study.tables("sites")
    has_room = all(site["capacity_cells"] < float("inf") for site in sites)
    return has_room and any(site["migration_per_day"] for site in sites)


def immune(*path: str) -> Claim:
    """A key in [immune] which, if it is a table by drug, names one that is given."""

    def claim(study: Used) -> bool:
        level: Any = study.table.get("immune", {})
        for key in path:
            level = level.get(key)
            if not level:
                return False
        return not isinstance(level, dict) or bool(study.drugs(level))

    return claim


def spends_marrow(study: Used) -> bool:
    marrow = study.table.get("host", {}).get("drugs", {})
    return any(marrow[name]["slope_per_um"] > 0 for name in marrow if name in study.given)


def has_transduced_marrow(study: Used) -> bool:
    host = study.table.get("host", {})
    shares = [host.get("transduced_share", 0), *(a.get("transduced_share", 0) for a in study.arms)]
    pumps = [study.table["pumps"][name] for name in host.get("transduced_pump", {})]
    substrates = [name for pump in pumps for name in pump["vmax_um_per_h"]]
    return max(shares) > 0 and any(name in host["drugs"] for name in substrates)


# --- what the physician can do ---------------------------------------------------------------------


def in_an_arm(holds: Callable[[list[Table]], bool]) -> Claim:
    """The rows of doses of some arm are so."""
    return lambda study: any(holds(study.rows(arm)) for arm in study.arms)


def is_single(rows: list[Table]) -> bool:
    return len({row["drug"] for row in rows}) == 1


def first_day(row: Table) -> float:
    return row.get("from_day", row.get("day", 0.0))


def last_day(row: Table) -> float:
    """Nothing of a row begins later."""
    if "cycles" in row:
        return min(row["until_day"], first_day(row) + row["cycles"] * row["cycle_days"])
    return row.get("until_day", first_day(row))


def pairs(rows: list[Table]) -> Iterator[tuple[Table, Table]]:
    """Two rows with different drugs."""
    return ((a, b) for a, b in combinations(rows, 2) if a["drug"] != b["drug"])


def is_combination(rows: list[Table]) -> bool:
    return any(first_day(a) < last_day(b) and first_day(b) < last_day(a) for a, b in pairs(rows))


def is_sequence(rows: list[Table]) -> bool:
    """One drug begins when the last dose of another is over."""
    names = {row["drug"] for row in rows}
    spans = {
        name: (
            min(first_day(row) for row in rows if row["drug"] == name),
            max(last_day(row) for row in rows if row["drug"] == name),
        )
        for name in names
    }
    return any(
        spans[a][1] <= spans[b][0] or spans[b][1] <= spans[a][0] for a, b in combinations(names, 2)
    )


def is_alternation(rows: list[Table]) -> bool:
    """Two drugs take turns within one cycle."""
    in_turn = [row for row in rows if "cycle_days" in row]
    return any(
        a["cycle_days"] == b["cycle_days"] and not set(a["on_days"]) & set(b["on_days"])
        for a, b in pairs(in_turn)
    )


def amount(row: Table) -> float:
    return row.get("amount_mg_per_m2", row.get("amount_mg", 0.0))


def is_metronomic(study: Used) -> bool:
    """Small doses every day of a drug that another arm gives in large ones, with pauses."""
    often = [row for row in study.doses if row.get("every_h", 1e9) <= 24]
    rarely = [row for row in study.doses if row.get("cycle_days", 0) >= LONG_CYCLE]
    return any(
        a["drug"] == b["drug"] and 0 < amount(a) < amount(b) / 2 for a in often for b in rarely
    )


def by_route(route: str) -> Claim:
    return lambda study: any(row.get("route") == route for row in study.doses)


def with_compartments(number: int) -> Claim:
    return lambda study: any(
        len(drug["plasma"]["peripheral"]) + 1 == number
        for drug in study.drugs(study.given)
        if "plasma" in drug
    )


def rule(name: str, **observed: float) -> Claim:
    """A rule, and observations that are worth more than these."""

    def claim(study: Used) -> bool:
        visits = study.table.get("visits", {})
        return name in study.rules and all(visits.get(k, 0) > v for k, v in observed.items())

    return claim


def has_modulator(names: Callable[[Used], list[str]]) -> Claim:
    """A drug of these that is given, with a plasma course."""
    return lambda study: any("plasma" in drug for drug in study.drugs(names(study)))


def pump_inhibitors(study: Used) -> list[str]:
    return [name for pump in study.tables("pumps") for name in pump["inhibited_by_ki_um"]]


def epigenetic_drugs(study: Used) -> list[str]:
    tables = study.tables("alterations")
    return [name for table in tables for name in table.get("induced_off_per_day", ())]


def suppressor_drugs(study: Used) -> list[str]:
    return list(study.table.get("immune", {}).get("suppressors", {}).get("removed_per_day", ()))


def irradiates(mechanism: str) -> Claim:
    """Several fractions on a tumor with this mechanism."""
    return lambda study: (
        bool(study.altered(mechanism))
        and any(course["fractions"] > 1 for arm in study.arms for course in arm["radiation"])
    )


def operates(study: Used) -> bool:
    return any(arm["surgery"] for arm in study.arms)


def supports(study: Used) -> bool:
    """G-CSF that waits until it is needed."""
    marrow = study.table.get("host", {}).get("drugs", {})
    supportive = study.rules.get("hold_and_reduce", {}).get("supportive", ())
    return any(marrow[name]["growth_gain"] > 0 for name in supportive if name in study.given)


BIOLOGY: dict[int, dict[str, Claim]] = {
    1: {"reduced uptake": loses_uptake},
    2: {"efflux of several drugs, and an inhibitor": pumps_out},
    3: {
        "inactivation": acts_on_given("inactivation", "inactivation_per_h"),
        "sequestration": acts_on_given("sequestration", "stored_ratio"),
    },
    4: {"lost activation of a prodrug": loses_activation},
    5: {"altered target: mutations x drugs": has_folds},
    6: {"lost target": on_bound_target("lost_target")},
    7: {
        "amplified target that outnumbers the drug": on_bound_target(
            "target_amplification", pool="trapped"
        )
    },
    8: {"bypass through a target of another drug": on_bound_target("bypass", "through")},
    9: {"repair of damage by a drug": lambda s: bool(s.altered("repair")) and s.acting(dna=True)},
    10: {
        "apoptosis evasion": lambda s: (
            bool(s.altered("apoptosis_evasion")) and s.acting(apoptotic=True)
        )
    },
    11: {"epigenetic switch that a drug turns": switches},
    12: {"quiescence, and a drug that is specific to the cycle": rests},
    13: {
        "checkpoint ligand": lambda s: any(
            t["ligand_share"] > 0 for t in s.altered("immune_evasion")
        ),
        "lost antigen": lambda s: any(t["antigen_factor"] < 1 for t in s.altered("immune_evasion")),
    },
    14: {
        "poor perfusion": at_site("delivered_fraction", lambda value: value < 1),
        "slow equilibration": at_site("equilibration_per_h", lambda value: value < float("inf")),
    },
    15: {"extracellular matrix": at_site("vessel_distance_um", lambda value: value > 0)},
    16: {"blood-brain barrier with P-gp, and an inhibitor": has_barrier},
    17: {
        "fibroblasts shield": at_site("shielded_share", lambda value: value > 0),
        "fibroblasts support growth": at_site("growth_factor", lambda value: value > 1),
    },
    18: {
        "effector cells that are recruited": immune("recruitment_per_day"),
        "exhaustion": immune("exhaustion_per_day_per_cell"),
        "suppressors": lambda s: "suppressors" in s.table.get("immune", {}),
        "a drug that removes suppressors": immune("suppressors", "removed_per_day"),
        "checkpoint inhibitor": immune("checkpoint_ec50_um"),
    },
    19: {"migration between sites with room": migrates},
    20: {
        "marrow that drugs deplete": spends_marrow,
        "gene therapy of the marrow": has_transduced_marrow,
    },
    21: {
        "single drug": in_an_arm(is_single),
        "combination": in_an_arm(is_combination),
        "sequence": in_an_arm(is_sequence),
        "alternation": in_an_arm(is_alternation),
        "intermittent": rule("intermittent"),
        "metronomic beside the largest dose": is_metronomic,
        "one compartment": with_compartments(1),
        "two compartments": with_compartments(2),
        "by mouth": by_route("oral"),
        "bolus": by_route("bolus"),
        "infusion": by_route("infusion"),
    },
    22: {
        "second line at progression, as scans show it": rule(
            "second_line", scan_every_days=0, detection_cells=1, noise_cv=0
        )
    },
    23: {
        "adaptive, 50 %": rule("adaptive", every_days=0),
        "modulation": rule("modulation", every_days=0),
        "containment": rule("containment", every_days=0),
    },
    24: {"against the dominant alteration": rule("personalized", sequencing_fraction=0)},
    25: {"CPM": rule("cpm"), "DPM": rule("dpm22")},
    26: {
        "P-gp inhibitor with plasma": has_modulator(pump_inhibitors),
        "epigenetic drug with plasma": has_modulator(epigenetic_drugs),
        "drug against suppressors with plasma": has_modulator(suppressor_drugs),
    },
    27: {"immunotherapy": immune("checkpoint_ec50_um")},
    28: {
        "radiation and repair": irradiates("repair"),
        "radiation and quiescence": irradiates("quiescence"),
        "surgery": operates,
    },
    29: {"G-CSF when needed": supports, "marrow with MDR1": has_transduced_marrow},
    30: {"screen of drugs together": lambda s: s.table.get("screen", {}).get("order", 0) >= 2},
    31: {"trial": lambda s: "trial" in s.table and len(s.arms) >= 2},
}
