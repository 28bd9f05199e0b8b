"""Sections of the validation page about fields."""

from __future__ import annotations

from itertools import product

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


def separation() -> str:
    entry = load("fields_separation")
    if not entry:
        return ""
    names = {"exact": "exact", "learned": "learned", "too narrow": "too narrow (must fail)"}
    names["shifted"] = "shifted (must fail)"
    figures = ("mean_error_sd_rms", "variance_ratio", "z_score_rms", "z_score_rms_exact")
    parts = ["first round, mocks", *(f"round {i + 1}, the run's own" for i in range(len(entry["rounds_of_run"])))]
    each = [entry["first_round"], *(of["groups"] for of in entry["rounds_of_run"])]
    rows = [
        [part, group, *(f"{e[key]:.3f}" for key in figures)]
        for part, groups in zip(parts, each, strict=True)
        for group, e in groups.items()
    ]
    covered, solver = entry["coverage"], entry["solver"]
    levels = list(next(iter(covered["learned"]["pixels"].values())))
    shares = [
        [names[kind], group, *(f"{inside:.3f} +- {error:.3f}" for inside, error in found.values())]
        for kind, one in covered.items()
        for group, found in one["pixels"].items()
    ]
    shares += [
        [names[kind], what, *(f"{inside:.3f}" for inside in found.values())]
        for kind, one in covered.items()
        for what, found in one["quantities"].items()
    ]
    verdicts = [
        [names[kind]]
        + [f"{one[f'{of}_worst_sigma']:.1f} of {one[f'{of}_band_sigma']:.1f}" for of in ("pixels", "quantities")]
        + [f"{one['ranks_p']:.2g}", "passed" if one["ranks_passed"] else "refused"]
        for kind, one in covered.items()
    ]
    nat = ", ".join(f"{of} {value:.3f}" for of, value in entry["kl_nat"].items())
    return (
        f"{made(entry)}\n\nMeans and variances against the exact linear formula, in the exact posterior's sd, "
        f"{entry['mocks']} mocks of the prior for the first round. Aims: mean within 0.05 sd rms, variance within 5%. "
        f"Divergence of the learned from the exact posterior, nat a mock: {nat}. The recipe's solver differs from "
        f"dense matrices by {solver['learned']['mean_error_sd_rms']:.1e} sd rms in the mean.\n\n"
        + table(["round", "pixels", "error of the mean [sd, rms]", "variance ratio", "z-score rms", "exact"], rows)
        + "\nTruths inside central intervals; errors of pixels' shares are from their scatter over mocks.\n\n"
        + table(["posterior", "of", *levels], shares)
        + "\nLargest departure from nominal in sd, and the 95% band of that many comparisons: of pixels, from the "
        "scatter over mocks; of power by wavenumber, mean and rms, binomial. p: of the ranks among draws of all of "
        "these, Bonferroni.\n\n" + table(["posterior", "pixels", "power, mean, rms", "p", ""], verdicts)
    )


def spectra() -> str:
    entry = load("fields_spectrum")
    if not entry:
        return ""
    names = {"learned": "learned", "exact": "exact", "too narrow": "too narrow (must fail)"}
    names["shifted"] = "shifted (must fail)"
    verdicts = {True: "passed", False: "refused"}
    covered, widths = [], []
    for field, stage in product(("exponentiated", "linear"), ("first round", "last round")):
        of = [field, stage]
        for name, found in entry[field][stage]["parameters"].items():
            for kind in (kind for kind in names if kind in found["posteriors"]):
                one = found["posteriors"][kind]
                inside = [f"{v:.3f}" for v in one["inside"].values()]
                covered.append([*of, name, names[kind], *inside, f"{one['p']:.2g}", verdicts[one["passed"]]])
            widths.append([*of, name, found.get("mean_error_sd_rms", "-"), found["sd_over_known"]])
        joint = entry[field][stage]["joint"]
        inside = [f"{joint['numbers'][level]:.3f}" for level in entry["bands_99"]]
        covered.append([*of, "both", "learned", *inside, f"{joint['p_value']:.2g}", verdicts[joint["passed"]]])
    bands = ", ".join(f"{level}: {low:.3f} to {high:.3f}" for level, (low, high) in entry["bands_99"].items())
    return (
        f"{made(entry)}\n\n{entry['mocks']:,} mocks of each round's region, which is the prior for the first; "
        f"{entry['simulations']:,} simulations a round. Truths inside central intervals (of both parameters together: "
        f"of highest density) and p of their ranks. 99% of calibrated posteriors are within {bands}.\n\n"
        + table(["field", "", "parameter", "posterior", *entry["bands_99"], "p", ""], covered)
        + "\nLinear: error of the mean in the exact posterior's sd, and sd over the exact one, median. Exponentiated: "
        "sd over that of the posterior if z were known without noise, which is a bound and no aim.\n\n"
        + table(["field", "", "parameter", "error of the mean [sd, rms]", "sd ratio"], widths)
    )


def wiener() -> str:
    entry = load("fields_wiener")
    if not entry:
        return ""
    names = {"learned": "learned", "exact": "exact"}
    names |= {kind: f"{kind} (must fail)" for kind in ("homogeneous", "mask ignored", "noise taken for even")}
    rows = [
        [case, names[kind], group]
        + [f"{of[key]:.3f}" for key in ("mean_error_sd_rms", "variance_ratio", "variance_ratio_worst", "z_score_rms")]
        + ["passed" if one["passed"] else "refused"]
        for case, found in entry["cases"].items()
        for kind, one in found["posteriors"].items()
        for group, of in one["groups"].items()
    ]
    head = ["field", "posterior", "pixels", "error of the mean [sd, rms]", "variance ratio", "worst", "z-score rms", ""]
    asked, of = entry["asked"], list(entry["cases"].values())
    solved = max(found["solver"]["mean_error_sd_rms"] for found in of)
    drawn = [ratio for found in of for ratio in found["solver"]["draws_variance_ratio"].values()]
    return (
        f"{made(entry)}\n\n{of[0]['observations']} observations a case, one network for all of them. Means against the "
        "dense filter's in its sd, ratios of variances over all observations and of the worst of them. Aims: mean "
        f"within {asked['mean_error_sd_rms']} sd rms, variance within {asked['variance_ratio']:.0%} for every "
        f"observation, observed and masked. The recipes' solver differs from dense matrices by at most {solved:.1e} sd "
        f"rms in the mean, variances of 800 of its draws are {min(drawn):.3f} to {max(drawn):.3f} of theirs.\n\n"
        + table(head, rows)
    )


def wmap() -> str:
    runs = load("fields_wmap") or {}
    return "\n".join(f"### {_VARIANTS[variant]}\n\n{_wmap_run(entry)}" for variant, entry in runs.items())


_VARIANTS = {
    "default": "Defaults",
    "fewer": "--lmax 80, two rounds",
    "foreground": "--preset foreground",
    "noise": "--preset noise",
}


def _wmap_run(entry: dict) -> str:
    sky, calibration = entry["sky"], entry["calibration"]
    mocks = calibration["mocks"]
    bins = [
        [name, *(f"{r[key]:.0f}" for key in ("model", "cosmic_sd", "draws_mean", "draws_sd"))]
        + [f"{r[f'{of}_ratio']:.3f} +- {r[f'{of}_ratio_sd']:.3f}" for of in ("outside", "data")]
        + ["{:.3f} +- {:.3f}".format(*mocks["outside_ratio"][name])]
        for name, r in sky["bins"].items()
    ]
    verdicts = []
    for name, key, kind in (
        ("best fit", "against_best_fit", "best_fit"),
        ("times 1.5 (must fail)", "against_wrong", "wrong"),
    ):
        check, of = sky[key], mocks["spectrum"][kind]
        verdicts.append(
            [name, f"{check['ratio']:.3f}", f"{check['p_value']:.2g}", f"{check['within_two_errors']:.0%}"]
            + [f"{of['ratio_mean']:.3f} +- {of['ratio_sd']:.3f}", f"{of['refused']} of {of['of']}"]
        )
    scores = [
        [group, *("{:.3f} +- {:.3f}".format(*one["z_score_rms"][group]) for one in calibration.values())]
        for group in mocks["z_score_rms"]
    ]
    verdict = {True: "passed", False: "refused"}
    scores.append(["all", *(verdict[one["passed"]] for one in calibration.values())])
    scores.append(["p of ranks", *(f"{one['ranks_p']:.2g}" for one in calibration.values())])
    residual = " and ".join(f"{value:.3f}" for value in sky["residual_rms"])
    extent = ", ".join(f"{name} {sky['rms_uk'][name]:.1f} ({sky['sd_uk'][name]:.1f})" for name in sky["rms_uk"])
    last = sky["rounds"][-1]
    gained = (
        f" The last round gained {last['gain_nat']:.1f} +- {last['gain_error_nat']:.1f} nat on simulations held out."
        if len(sky["rounds"]) > 1
        else ""
    )
    level = entry.get("noise_factor")
    inferred = (
        f" The factor on the noise is {level['mean']:.3f} +- {level['sd']:.3f}; if the bands disagreed on noise alone, "
        f"exactly {level['noise_alone_mean']:.3f} +- {level['noise_alone_sd']:.3f}."
        if level
        else ""
    )
    return (
        f"{made(entry)}\n\n{entry['pixels']:,} pixels observed in both bands; {entry['wall_s']} s. Data minus draws "
        f"have {residual} (V, W) of the scatter expected of noise and unresolved CMB. Rms of the posterior mean, in "
        f"brackets the mean sd of a pixel, microkelvin: {extent}.{gained}{inferred}\n\n"
        "The real sky, l (l + 1) C_l / 2 pi in microkelvin^2: best fit with its cosmic variance, draws of the whole "
        "sky; outside the mask, uncorrected: of draws and of the mean of both bands over what the best fit expects "
        "there, and of mocks' draws over their truth.\n\n"
        + table(
            [
                *("l", "best fit", "cosmic sd", "draws, mean", "draws, sd"),
                *("outside the mask: draws", "data", "mocks' draws over truth"),
            ],
            bins,
        )
        + "\nSpectra at 2 <= l <= 40, each as prior and as what is tested; p: chi-squared of all multipoles; within: "
        "multipoles within two errors. Mocks are of the best fit; refused: p below 0.01.\n\n"
        + table(["spectrum", "ratio", "p", "within", "mocks: ratio", "mocks: refused"], verdicts)
        + f"\n{mocks['mocks']} mock skies, first round: z-score rms of pixels and of modes, which should be 1 within "
        "0.05 and two errors, from the scatter over mocks; p of ranks of its C_l, 2 <= l <= 40, among draws.\n\n"
        + table(["", "mocks", "1.5 times the power (must fail)"], scores)
    )


SECTIONS = {
    "Linear fields behind a mask, against Wiener filters": wiener,
    "The CMB from WMAP's maps": wmap,
    "Exponentiated fields, every pixel": expgrf,
    "Log-normal densities from galaxy counts, every cell": lss,
    "Two overlapping fields told apart": separation,
    "Amplitude and slope of a field's spectrum": spectra,
}
