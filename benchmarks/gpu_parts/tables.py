"""The tables of results.md."""

from pathlib import Path
from typing import Any


def write_tables(
    path: Path,
    setup: dict[str, Any],
    parts: dict[str, dict[str, Any]],
    claims: list[dict[str, Any]],
) -> None:
    lines = [", ".join(f"{name} {value}" for name, value in setup.items()), ""]
    lines += ["| aim | limit | measured | met |", "|---|---|---|---|"]
    for claim in claims:
        value = "not measured" if claim["value"] is None else show(claim["value"])
        met = {True: "yes", False: "NO", None: ""}[claim["is_met"]]
        lines.append(f"| {claim['aim']} | {claim['limit']} | {value} | {met} |")
    lines += ["", "| part | figure | value |", "|---|---|---|"]
    for name, row in parts.items():
        if row["state"] != "done":
            lines.append(f"| {name} | {row['state']} | {row['reason']} |")
        for figure in row["figures"]:
            value = f"{show(figure['value'])} {figure['unit']}".strip()
            lines.append(f"| {name} | {figure['name']} | {value} |")
    path.write_text("\n".join(lines) + "\n")


def show(value: Any) -> str:
    """Return a number with separators, or another value as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"
