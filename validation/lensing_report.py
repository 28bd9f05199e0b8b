"""Sections of docs/validation.md on tmnre-lensing."""

from __future__ import annotations

from tables import load, made, table

LEVELS, MAKERS = ("0.50", "0.68", "0.90"), ("tmnre", "lenstronomy")


def exact() -> str:
    """demo and mock against importance sampling with the exact likelihood."""
    parts = []
    for name in ("demo", "mock"):
        for entry in load(f"lensing_{name}") or []:
            rows = [
                [parameter, row["jsd"], row["median_shift_sd"], row["width_ratio"]]
                for parameter, row in entry["parameters"].items()
            ]
            ratios = [row["width_ratio"] for row in entry["parameters"].values()]
            joint = f" C2ST of the joint posterior {entry['c2st']:.3f} (aim 0.6)." if "c2st" in entry else ""
            parts.append(
                f"### lensing/{name}, seed {entry['seed']}, noise {entry['observation_seed']}\n\n{made(entry)}\n\n"
                f"{entry['simulations']:,} simulations, {entry['wall_s']} s, against importance sampling of the exact "
                f"likelihood ({entry['exact_calls']:,} images, effective size {entry['exact_effective']:,.0f}). Widths "
                f"{min(ratios):.2f} to {max(ratios):.2f} of the exact ones (aim 10%).{joint}\n\n"
                + table(["parameter", "JSD [nat]", "median shift [sd]", "width ratio"], rows)
                + _truncation(entry.get("truncation"))
            )
    checked = load("lensing_mock_emcee")
    if checked:
        shift = max(abs(v) for v in checked["shift_sd"])
        width = max(abs(v - 1) for v in checked["width_ratio"])
        parts.append(
            f"The importance sampler against emcee on the same likelihood (64 walkers, {checked['steps']:,} steps, "
            f"autocorrelation {checked['autocorrelation']:.0f}): {made(checked)}. Means differ by {shift:.3f} sd and "
            f"widths by {width:.1%} at most.\n"
        )
    return "\n".join(parts)


def _truncation(found: dict | None) -> str:
    if not found:
        return ""
    rows = [[kind, row["round"], row["log_volume"], row["image_variance"]] for kind, row in found.items()]
    return "\nTraining images, region by region; variance over that of the noise, summed over pixels:\n\n" + table(
        ["region", "round", "log prior volume", "variance of images"], rows
    )


def lenstronomy() -> str:
    """Coverage on mocks made by lenstronomy."""
    parts = []
    for name, found in (load("lensing_lenstronomy") or {}).items():
        rows = [
            [parameter, *(found["coverage"][who][parameter][level] for level in LEVELS for who in MAKERS)]
            + [found["rank_shift_rms"][parameter]]
            for parameter in found["coverage"]["tmnre"]
        ]
        head = [f"{float(level):.0%}, {who}" for level in LEVELS for who in MAKERS]
        parts.append(
            f"### lensing/{name}\n\n{made(found)}\n\nShares of {found['mocks']:,} truths in central intervals, of "
            "mocks drawn from the last region and imaged by either code, with the same noise. Their images differ by "
            f"{found['largest_difference_over_peak']:.1e} of the peak at most, "
            f"{found['largest_difference_over_noise']:.4f} of the noise; ranks of the truth by the root mean square in "
            "the last column.\n\n" + table(["parameter", *head, "rank"], rows)
        )
    return "\n".join(parts)


def subhalo() -> str:
    """The recognition network against the linear reference."""
    return "\n".join(_subhalo(found) for snr in (50, 100) if (found := load(f"lensing_subhalo-{snr}")))


def _subhalo(found: dict) -> str:
    rows = []
    for mass, row in found["masses"].items():
        kl = [row[k]["median"] for k in ("kl_network", "kl_filters_alone")]
        if mass == "none":
            shares = [row[w]["false_alarms"] for w in ("network", "exact")]
            rows.append([mass, *kl, *shares, "", "", "", ""])
        else:
            ours, ref = row["network"], row["exact"]
            rows.append(
                [mass, *kl, ours["found"], ref["found"]]
                + [v[k] or "" for k in ("localisation_median_arcsec", "mass_bias_dex") for v in (ours, ref)]
            )
    head = ["log10 M", "KL network", "KL filters alone", "B > 10", "exact", "off [arcsec]", "exact", "mass bias [dex]"]
    on = found["on_mocks"]
    reliable = [[r["mocks"], r["probability"], r["share"]] for r in on["reliability"]]
    alarms = ", ".join(f"{value:.3f} {name}" for name, value in on["false_alarms"].items())
    return (
        f"### Peak signal-to-noise ratio {found['peak_snr']:.0f}\n\n{made(found)}\n\n"
        f"{found['simulations']:,} simulations, {found['wall_s']} s. {found['mocks']} mocks each; medians of the "
        "divergence (nat) of the map from the reference, shares with a Bayes factor above 10, and of those the "
        "distance from the truth and the bias of the mass.\n\n"
        + table([*head, "exact"], rows)
        + f"\nReliability on {on['mocks']} mocks held aside; false alarms {alarms}.\n\n"
        + table(["mocks", "probability said", "share with a subhalo"], reliable)
    )


def slacs() -> str:
    """The real lens."""
    found = load("lensing_slacs")
    if not found:
        return ""
    rows = [[name, *row] for name, row in found["parameters"].items()]
    return (
        f"{made(found)}\n\nSLACS J2303+1422, {found['pixels']:,} pixels, {found['simulations']:,} simulations, "
        f"{found['wall_s']} s. Einstein radius, of the area inside the best draw's critical curve, "
        f"{found['einstein_radius_best_draw']:.3f} arcsec, published 1.62 of a model without shear, for which that is "
        f"theta_E (aim 2%); theta_E of the power law, beside its shear, {found['theta_e']:.3f}. Mean square of the "
        f"normalised residual {found['chi2']:.2f}. Test of {found['blocks']} blocks for light the model lacks: "
        f"p = {found['p_value']:.1e}, {'not ' if found['passed'] else ''}refused.\n\n"
        + table(["parameter", "median", "5%", "95%"], rows)
    )


def warm() -> str:
    """The population of perturbers beside brute force."""
    found = load("lensing_warm")
    if not found:
        return ""
    rows = [
        [seed, name, *(one[k] for k in ("jsd", "floor", "prior_jsd", "median_shift_sd", "width_ratio"))]
        for seed, entry in found.items()
        for name, one in entry["parameters"].items()
    ]
    effective = ", ".join(f"{entry['effective']:,.0f}" for entry in found.values())
    head = ["observation", "parameter", "JSD", "floor", "JSD of the prior", "median shift [sd]", "width ratio"]
    return (
        f"{made(next(iter(found.values())))}\n\nOne lens of 20 x 20 pixels, main lens and source almost known; "
        "draws of the population's prior weighted by the likelihood of the haloes drawn from each, effective numbers "
        f"{effective}. JSD in nat, beside that of the prior: what a posterior that has learned nothing would score.\n\n"
        + table(head, rows)
    )


SECTIONS = {
    "lensing: exact posteriors": exact,
    "lensing: mocks made by lenstronomy": lenstronomy,
    "lensing: subhalo map": subhalo,
    "lensing: SLACS J2303+1422": slacs,
    "lensing/warm beside brute force": warm,
}
