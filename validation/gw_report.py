"""Sections of the validation page: the exact step, a nested sampler, overlapping signals."""

from __future__ import annotations

import numpy as np
from tables import load, made, table


def gw_exact() -> str:
    found = load("gw_exact")
    if not found:
        return ""
    rows = []
    for name, e in found.items():
        exact = e["exact"]
        rows.append(
            [name, e["waveforms_learned"], e["wall_s_learned"], exact["waveforms"], round(exact["wall_s"])]
            + [f"{exact['log_bayes_factor']:.2f} +- {exact['log_evidence_sd']:.2f}", round(exact["effective_samples"])]
            + [e[f"jsd_{stat}_{how}"] for how in ("learned", "exact") for stat in ("mean", "max")]
            + [e["floor_mean"]]
        )
    head = [
        *("case", "waveforms", "s", "waveforms, exact step", "s", "ln Bayes factor", "effective draws"),
        *("learned: JSD mean", "max", "exact: JSD mean", "max", "floor"),
    ]
    text = (
        "Draws from the exact posterior after the last round (`tmnre_gw.tempering`), against answers that know "
        "nothing of what was learned: of GW150914 the published samples, re-weighted by bilby's likelihood to our "
        "data; of injections, and of mocks of other events with `gw/bbh` (`gw_events.py`), the sampler of "
        "`gw_injections.py`. JSD in nat over fifteen 1-d marginals; the floor is that of the reference's size. Wall "
        "times are of cores shared with other work.\n\n" + table(head, rows)
    )
    for name, e in found.items():
        rows = [
            [n, *(e["parameters"][how][n][k] for how in ("learned", "exact") for k in KEYS)]
            for n in e["parameters"]["exact"]
        ]
        head = ["parameter", *(f"{how}: {k}" for how in ("learned", "exact") for k in SHOWN)]
        text += f"\n### {name}\n\n{made(e)}\n\n" + table(head, rows)
    return text


KEYS, SHOWN = ("jsd", "median_shift_sd", "width_ratio"), ("JSD", "median shift [sd]", "width ratio")


def gw_overlapping() -> str:
    found = load("gw_overlapping")
    if not found or not any(found.values()):
        return ""
    rows = []
    for separation, runs in found.items():
        if not runs:
            continue
        ranks = np.array([list(run["ranks"].values()) for run in runs.values()])
        inside = (ranks >= 0.05) & (ranks <= 0.95)
        held = np.array([list(run["held_out_90"].values()) for run in runs.values()])
        wider = np.array([list(run["width_over_alone"].values()) for run in runs.values()])
        rows.append(
            [separation, len(runs), f"{inside.sum()} of {inside.size}", held.mean(), held.min(), held.max()]
            + [float(np.median(wider)), float(wider.max()), float(np.mean([run["wall_s"] for run in runs.values()]))]
        )
    head = [
        *("separation", "injections", "truths in 90%", "held out: mean", "least", "most"),
        *("width over that alone: median", "most", "s an injection"),
    ]
    first = next(run for runs in found.values() for run in runs.values())
    return (
        f"{made(first)}\n\nTwo signals, twelve parameters and what derives from them; truths from the prior with "
        "signal-to-noise ratios of 10 to 40. Held out: share of up to 1000 simulations of the last region whose truth "
        "lies in the 90% interval, over all marginals. Width: of the first signal's marginals, over that of a fit of "
        "the first alone to data that hold it alone. Time: of both fits.\n\n" + table(head, rows)
    )


def gw_nested() -> str:
    e = load("gw_nested")
    if not e:
        return ""
    truth, nested, exact, agree = e["truth"], e["nested"], e["exact"], e["agreement"]
    sampler = nested["settings"]
    snr = np.hypot(truth["snr_H1"], truth["snr_L1"])
    costs = [
        ["gw/bbh, rounds", f"{e['waveforms_learned']:,} waveforms", e["wall_s_learned"], "-"],
        [
            "gw/bbh, exact step",
            f"{exact['waveforms']:,} waveforms, {exact['likelihood_evaluations']:,} likelihoods",
            round(exact["wall_s"]),
            f"{exact['log_bayes_factor']:.2f} +- {exact['log_evidence_sd']:.2f}",
        ],
        [
            "bilby, dynesty",
            f"{nested['likelihood_calls']:,.0f} likelihood calls, a waveform each",
            round(nested["wall_s"]),
            f"{nested['log_bayes_factor']:.2f} +- {nested['log_bayes_factor_sd']:.2f}",
        ],
    ]
    apart = [
        [where, a["points"], a["log_likelihood_least"]]
        + [a[f"apart_{stat}_{which}"] for which in WHICH for stat in ("median", "max")]
        + [a[f"cpu_ms_{which}"] for which in ("ours", "sampled", "full")]
        for where, a in agree.items()
    ]
    jsds = [[how, e[f"jsd_mean_{how}"], e[f"jsd_max_{how}"], e["floor_mean"]] for how in ("learned", "exact")]
    rows = [
        [n, truth[n], *(e["parameters"][how][n][k] for how in ("learned", "exact") for k in KEYS), row["floor"]]
        for n, row in e["parameters"]["exact"].items()
    ]
    head = ["parameter", "truth", *(f"{how}: {k}" for how in ("learned", "exact") for k in SHOWN), "floor"]
    return (
        f"{made(e)}\n\nAn IMRPhenomXPHM injection, {truth['mass_1']:.1f} + {truth['mass_2']:.1f} Msun at "
        f"{truth['luminosity_distance']:.0f} Mpc seen at {truth['theta_jn']:.1f} rad, signal-to-noise ratio "
        f"{snr:.1f} in H1 and L1; fifteen parameters free. The defaults of gw/bbh against bilby with dynesty "
        f"({sampler['nlive']} live points, {sampler['sample']}, naccept {sampler['naccept']} where bilby's default is "
        f"60, dlogz {sampler['dlogz']}), which left {nested['draws']:,} draws; distance marginalised, likelihood "
        "multi-banded, one process each. Calls outside the bounds of the component masses cost no waveform but are "
        "counted.\n\n"
        + table(["", "evaluations", "wall s", "ln Bayes factor"], costs)
        + "\nJSD in nat over the fifteen 1-d marginals:\n\n"
        + table(["", "mean", "worst", "floor, mean"], jsds)
        + "\nMedians and widths of angles that wrap (phase, psi, phi_12, phi_jl, ra) say little.\n\n"
        + table(head, rows)
        + "\nLog likelihood ratios: how far ours and the multi-banded one are from bilby's on the full grid, and from "
        "each other, median and largest; lal's own multi-banding of this approximant acts on the full grid only. CPU "
        "time in ms of each with its waveform.\n\n"
        + table([*("", "points", "least"), *HEAD_APART, "ours: ms", "multi-banded: ms", "full: ms"], apart)
    )


WHICH = ("ours", "sampled", "ours_sampled")
HEAD_APART = (
    *("ours: median", "max", "multi-banded: median", "max"),
    *("ours from multi-banded: median", "max"),
)


def ripple() -> str:
    found = load("gw_ripple")
    if not found:
        return ""
    rows = [
        [name, one["binaries"], one["nodes"], *one["error"].values(), *one["mismatch"].values(), one["not_finite"],
         one["lal_ms"], one["ripple_ms"], one["first_call_s"]]
        for name, one in found.items()
    ]  # fmt: skip
    head = ["approximant", "binaries", "nodes", "error, median", "90%", "worst", "mismatch, median", "90%", "worst",
            "not finite", "lal [ms]", "ripple [ms]", "first call [s]"]  # fmt: skip
    first = next(iter(found.values()))
    return (
        f"{made(first)}\n\nBinaries of the prior of gw/bbh, on one busy core of a processor (processor time; the first "
        "call compiles). Errors are the largest difference, as a share of a waveform's largest value.\n\n"
        + table(head, rows)
    )


SECTIONS = {
    "Waveforms by ripple beside lal's": ripple,
    "The exact step of gw/bbh and gw/gw150914": gw_exact,
    "gw/bbh with higher modes against a nested sampler": gw_nested,
    "gw/overlapping": gw_overlapping,
}
