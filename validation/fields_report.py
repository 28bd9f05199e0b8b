"""Sections of the validation page about fields."""

from __future__ import annotations

from tables import load, made, table


def expgrf() -> str:
    entry = load("fields_expgrf")
    if not entry:
        return ""
    names = {
        "first_round": "first round",
        "homogeneous": "same means, homogeneous spread (must fail)",
        "hmc": "HMC itself",
        "first_round_of_these": "first round, those that went on",
        "all_rounds": "all rounds, the same",
    }
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


SECTIONS = {"Exponentiated fields, every pixel": expgrf}
