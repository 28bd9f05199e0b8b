"""Sections of the validation page on popsources/gce."""

from __future__ import annotations

from tables import load, made, table


def exact() -> str:
    found = (load("popsources_gce") or {}).get("exact")
    if not found:
        return ""
    keys = ("truth", "exact_median", "exact_sd", "jsd", "floor", "median_shift_sd", "width_ratio")
    rows = [
        [seed, name, *(one[key] for key in keys)]
        for seed, entry in found.items()
        for name, one in entry["parameters"].items()
    ]
    head = ["observation", "parameter", "truth", "exact median", "exact sd", "JSD", "floor", "median shift [sd]",
            "width ratio"]  # fmt: skip
    return f"{made(next(iter(found.values())))}\n\nnside 64, default mock, no sources.\n\n{table(head, rows)}"


def mock() -> str:
    found = (load("popsources_gce") or {}).get("run")
    if not found:
        return ""
    rows = [
        [name, found["truth"].get(name, "-"), one["median"], one["sd"], "{:.3g} to {:.3g}".format(*one["interval_90"])]
        for name, one in found["parameters"].items()
    ]
    return (
        f"{made(found)}\n\n{found['simulations']:,} maps, {found['wall_s']:.0f} s with other work beside.\n\n"
        + table(["parameter", "truth", "median", "sd", "90% interval"], rows)
    )


SECTIONS = {
    "popsources/gce without sources, beside the exact Poisson likelihood": exact,
    "popsources/gce, its default mock": mock,
}
