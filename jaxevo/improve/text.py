"""Text: what a search found and what came of it, in words."""

from typing import Any

MOST_ROWS = 60  # of the schedule; the files have all
MISSED = [
    "  (not as predicted: one row in twenty by chance; or under crowding, immunity or feedback, where a",
    "  prediction follows the mean course of all tumors and calls one at its own capacity far too safe)",
]


def tell(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    search = report["search"]
    state = "converged" if search["is_converged"] else "not converged"
    kept = "keeps every limit" if report["feasible"] else "BREAKS A LIMIT"
    value = "unknown" if search["value"] is None else f"{search['value']:.6g}"
    lines = [
        f"{report['title']}",
        f"{search['objective']}: {value} ({state}; the schedule {kept})",
    ]
    for name, limit in search["limits"].items():
        slack = limit["least_slack"]
        told = "no bound" if slack is None else f"least slack {slack:.2%} of the bound"
        lines.append(f"  limit on {name}: {told}, largest multiplier {_largest(limit):.3g}")
    lines += [
        "",
        f"recommended: {report['recommended']}",
        *_schedule(report["schedule_amounts"]),
        "",
    ]
    lines += table(report["arms"], "relapse by the horizon, in tumors that the search never saw")
    lines += ["", _best(report)]
    for name, what in (("cells", "cell by cell"), ("robust", "patients whose numbers are off")):
        told = report.get(name)
        if told is not None:
            rows = told.get("arms")
            lines += ["", *(table(rows, what) if rows else [f"{what}: {told['note']}"])]
    if report.get("front"):
        rows = {row["limit"]: row for row in report["front"]}
        lines += ["", *table(rows, "front: schedules that spare the body more")]
    return "\n".join(lines)


def _largest(limit: dict[str, Any]) -> float:
    return max((x for x in limit["multiplier"] if x is not None), default=0.0)


def _schedule(rows: list[dict[str, Any]]) -> list[str]:
    """One line per drug and run of equal amounts."""
    runs: list[dict[str, Any]] = []
    for row in rows:
        key = "level_um" if "level_um" in row else "amount_mg"
        last = runs[-1] if runs else None
        amount, is_level = row[key], key == "level_um"
        if (
            last
            and last["drug"] == row["drug"]
            and abs(last["amount"] - amount) <= 1e-9 * row["most"]
        ):
            last["until"] = row["until_day"]
            continue
        runs.append({
            "drug": row["drug"], "amount": amount, "from": row["from_day"],
            "until": row["until_day"], "unit": "uM" if is_level else "mg",
        })  # fmt: skip
    lines = [
        f"  {run['drug']:<14} day {run['from']:>6g} to {run['until']:<6g} {run['amount']:.4g} {run['unit']}"
        for run in runs[:MOST_ROWS]
    ]
    more = len(runs) - MOST_ROWS
    return [*lines, f"  and {more} more"] if more > 0 else lines


def table(arms: dict[str, Any], title: str) -> list[str]:
    """Relapse of every arm as predicted and as observed, and where the two do not agree."""
    width = max(len(name) for name in arms)
    lines = [title, f"  {'':<{width}}  predicted  observed (95 % interval)"]
    for name, row in arms.items():
        told, seen = row["predicted_relapse_probability"], row["observed_relapse_probability"]
        predicted = "        -" if told is None else f"{told:9.4g}"
        observed = "-" if seen is None else f"{seen:.4g}"
        interval = f"({row['observed_low']:.4g} to {row['observed_high']:.4g})"
        beyond = f"  beyond: {', '.join(row['beyond'])}" if row.get("beyond") else ""
        missed = "  not as predicted" if row.get("is_predicted_inside") is False else ""
        lines.append(f"  {name:<{width}}  {predicted}  {observed} {interval}{missed}{beyond}")
    return [*lines, *MISSED] if any("not as predicted" in line for line in lines) else lines


def _best(report: dict[str, Any]) -> str:
    found = report["against_best"]
    if found["arm"] is None:
        return found["note"]
    gain = found["observed_gain"]
    interval = f"{gain['value']:.4g} ({gain['low']:.4g} to {gain['high']:.4g})"
    best = f"the best arm within the limits, {found['arm']}"
    if not found["is_no_worse"]:
        return f"no better than {best}, which is recommended: lower relapse by {interval}"
    if gain["low"] <= 0 <= gain["high"]:
        return f"no better than {best}, as far as these tumors tell: lower relapse by {interval}"
    word = "lower" if gain["value"] > 0 else "HIGHER"
    return f"{word} relapse than {best}, by {interval}"
