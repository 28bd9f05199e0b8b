"""Sections of the validation page about fields."""

from __future__ import annotations

from tables import load, made, table


def expgrf() -> str:
    names = {
        "first_round": "first round",
        "homogeneous": "same means, homogeneous spread (must fail)",
        "hmc": "HMC itself",
        "first_round_of_these": "first round, those that went on",
        "all_rounds": "all rounds, the same",
    }
    sizes = load("fields_expgrf") or {}
    return "\n".join(f"### {n} x {n}\n\n{against_hmc(entry, names)}" for n, entry in sizes.items())


def lss() -> str:
    names = {
        "first_round": "g, first round",
        "first_round_observed": "of these, cells with data",
        "first_round_hidden": "of these, cells without",
        "first_round_density": "1 + delta, first round",
        "homogeneous": "g, same means, homogeneous spread (must fail)",
        "hmc": "g, HMC itself",
        "first_round_of_these": "g, first round, those that went on",
        "all_rounds": "g, all rounds, the same",
        "all_rounds_density": "1 + delta, all rounds, the same",
    }
    entry = load("fields_lss")
    return against_hmc(entry, names) if entry else ""


def against_hmc(entry: dict, names: dict[str, str]) -> str:
    """The table of `fields_expgrf.against` for those of its entries that are named."""
    rows = []
    for key, name in names.items():
        if key in entry:
            e = entry[key]
            z = ", ".join(f"{v:.2f}" for v in e["z_score_rms_by_brightness"])
            rows.append(
                [name, e["observations"], e["mean_error_sd_rms"], e["variance_ratio_mean"], e["z_score_rms"], z]
            )
    head = [
        "posterior",
        "observations",
        "error of the mean [sd, rms]",
        "variance ratio",
        "z-score rms",
        "by brightness",
    ]
    floor = entry["hmc"]["reference_error_sd_rms"]
    return (
        f"{made(entry)}\n\nThe errors of the means contain the reference's own, {floor:.3f} sd rms. z-scores are of "
        "the truth, the quarters of pixels from faint to bright by posterior mean. Aims: mean within 0.1 sd, variance "
        "within 10%, z-score rms of every quarter 1 +- 0.05.\n\n" + table(head, rows)
    )


SECTIONS = {
    "Exponentiated fields, every pixel": expgrf,
    "Log-normal densities from galaxy counts, every cell": lss,
}
