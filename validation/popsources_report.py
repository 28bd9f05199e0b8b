"""Sections of the validation page on popsources."""

from __future__ import annotations

from tables import load, made, table

PUBLISHED_TRUTH = {"expected_sources": 147.6, "flux_width": 1.522, "height_deg": 16.41}


def exact() -> str:
    found = load("popsources_exact")
    if not found:
        return ""
    titles = {
        "lists": "Sets of detected sources, beside the thinned Poisson likelihood",
        "maps": "Whole maps without point spread function, beside the non-Poissonian template likelihood",
    }
    parts = []
    for name, entries in found.items():
        rows = [
            [seed, parameter, *(one[k] for k in ("truth", "jsd", "floor", "median_shift_sd", "width_ratio"))]
            for seed, entry in entries.items()
            for parameter, one in entry["parameters"].items()
        ]
        head = ["observation", "parameter", "truth", "JSD", "floor", "median shift [sd]", "width ratio"]
        parts.append(f"### {titles[name]}\n\n{made(next(iter(entries.values())))}\n\n{table(head, rows)}")
    return "\n".join(parts)


def detection() -> str:
    found = load("popsources_detection")
    if not found:
        return ""
    parts = [
        f"{made(found)}\n\n{found['detections']} detections (the paper has 26), {found['wall_s']:.0f} s. Widths are "
        f"standard deviations; sub-threshold, detected and combined posteriors, and the direct one as a cross-check.\n"
    ]
    rows = [
        [posterior, name, PUBLISHED_TRUTH[name], one["median"], one["sd"], interval(one)]
        for posterior, parameters in found["posteriors"].items()
        for name, one in parameters.items()
    ]
    return "\n".join([*parts, table(["posterior", "parameter", "truth", "median", "sd", "90% interval"], rows)])


def calibration() -> str:
    found = load("popsources_calibration")
    if not found:
        return ""
    parts = [f"{made(found)}\n\nTruths inside central intervals, and inside regions of highest density of all three:\n"]
    rows = []
    for posterior, one in found["posteriors"].items():
        for name, held in one["learned"].items():
            controls = ["refused" if not one[kind][name]["passed"] else "passed" for kind in ("shifted", "too narrow")]
            rows.append(
                [posterior, name, one["mocks"], *(held[k] for k in ("0.50", "0.68", "0.90", "p_uniform")), *controls]
            )
        joint = one["joint"]["numbers"]
        shares = [joint[k] for k in ("0.50", "0.68", "0.90")]
        rows.append([posterior, "all three", one["mocks"], *shares, one["joint"]["p_value"], "", ""])
    head = ["posterior", "parameter", "mocks", "50%", "68%", "90%", "p", "shifted by 0.5 sd", "1.5 times too narrow"]
    parts.append(table(head, rows))
    rows = [
        [name, one["shift_mean"], one["shift_rms"], one["width"]]
        for name, one in found["direct beside combined"].items()
    ]
    parts.append("The direct posterior of the same maps beside the combined one, in its standard deviations:\n")
    parts.append(table(["parameter", "mean shift", "rms shift", "width ratio (median)"], rows))
    return "\n".join(parts)


def fermi() -> str:
    found = load("popsources_fermi")
    if not found:
        return ""
    rows = [[one["threshold"], one["median"], interval(one), one["catalogue"]] for one in found["above"]]
    slope = found["n2"]
    return (
        f"{made(found)}\n\nnside {found['nside']}, |b| > 30 degrees, {found['simulations']:,} maps, "
        f"{found['wall_s']:.0f} s. Sources per steradian above fluxes in 1 to 100 GeV (converted to the map's 2 "
        "to 20 GeV with a photon index of 2.2):\n\n"
        + table(["flux [cm^-2 s^-1]", "median", "90% interval", "4FGL-DR3"], rows)
        + f"\nSlope between the breaks {slope['median']:.2f}, 90% {interval(slope)}; published: about 2 (2302.01947).\n"
        + beside_4fgl(found.get("detections"))
    )


def beside_4fgl(found: dict | None) -> str:
    """Completeness and purity by flux, where the run looked for single sources."""
    if not found:
        return ""
    mocks, listed, radius = found["mocks"], found["4fgl"], found["radius_deg"]
    chance, apart = listed["by_chance"]["detections"], listed["log_flux_difference"]
    parts = [
        f"\n{found['number']} detections of sources above {found['flux']:.3g} cm^-2 s^-1, {found['counts']:.1f} counts;"
        f" on mock skies {mocks['detections_per_sky']:.0f}. Of them {listed['purity_of_all']:.1%} match 4FGL, on mock"
        f" skies {mocks['purity_of_all']:.1%} match a source; {chance:.1%} match a turned catalogue. A match is within"
        f" {radius['median']:.2f} degrees (median; largest {radius['largest']:.2f}). ln F of matches is"
        f" {apart['median']:.3f} above that of 4FGL in the map's band, with a scatter of {apart['sd_68']:.3f}.\n"
    ]
    for key, head in (("completeness", "4FGL-DR3 sources"), ("purity", "detections")):
        rows = [
            [
                f"{one['low']:.2g} to {one['high']:.2g}",
                one["number"],
                *shares(one),
                "" if mock["share"] is None else mock["share"],
            ]
            for one, mock in zip(listed[key], mocks[key], strict=True)
        ]
        parts.append(table(["flux, 1 to 100 GeV", head, key, "error", "expected of these", f"mock {key}"], rows))
    pulls = ", ".join(f"{name} {one['mean']:.2f} and {one['sd']:.2f}" for name, one in mocks["pulls"].items())
    parts.append(f"Pulls on mock skies, mean and standard deviation: {pulls}.\n")
    return "\n".join(parts)


def shares(one: dict) -> list:
    """Share, error, expected share of a bin; blank where it is empty."""
    return [one["share"], one["error"], one["expected"]] if one["number"] else ["", "", ""]


def interval(one: dict) -> str:
    """The 90% interval of a summary, in words."""
    return "{:.3g} to {:.3g}".format(*one["interval_90"])


SECTIONS = {
    "popsources beside exact likelihoods": exact,
    "popsources/detection-is-truncation on the published observation": detection,
    "popsources/detection-is-truncation, its posteriors over mocks": calibration,
    "popsources/fermi-highlat": fermi,
}
