"""What finished runs of popsources recipes found, kept for the validation page.

tmnre run popsources/detection-is-truncation --out RUN
python validation/popsources_recipes.py detection RUN
tmnre run popsources/fermi-highlat --out RUN
python validation/popsources_recipes.py fermi RUN
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import yaml
from provenance import stamp

from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.result import weighted_quantile
from tmnre_popsources.fermi import number_name
from tmnre_popsources.patch import PRIOR

HERE = Path(__file__).parent
CATALOGUE_PER_SR = {1e-10: 370, 3e-10: 150, 1e-9: 47}
"""4FGL-DR3 at |b| > 30 degrees, above fluxes in 1 to 100 GeV"""


def detection(run: Path) -> dict:
    summary = json.loads((run / "summary.json").read_text())
    keys = ("detections", "threshold", "purity", "region_reach_sd", "posteriors", "truth", "by_flux", "warnings")
    found = {key: summary[key] for key in keys}
    procedure = find_recipe("popsources/detection-is-truncation").build(
        typed.parse(find_recipe("popsources/detection-is-truncation"), config=run / "config.yaml")
    )
    found["posteriors"]["complete catalogue"] = complete_catalogue(procedure.sources)
    return found


def complete_catalogue(sources: np.ndarray) -> dict[str, dict]:
    """Exact posteriors if every source l, b, ln F (S, 3) were known, flat priors: the most that any data can tell."""
    n = len(sources)
    squares = {"flux_width": ((sources[:, 2] - 1.0) ** 2).sum(), "height_deg": (sources[:, 1] ** 2).sum()}
    log_l = {name: lambda v, q=q: -n * np.log(v) - q / 2 / v**2 for name, q in squares.items()}
    log_l["expected_sources"] = lambda v: n * np.log(v) - v
    found = {}
    for name in PRIOR.names:
        grid = np.linspace(*PRIOR[name].support, 8001)
        w = np.exp(log_l[name](grid) - log_l[name](grid).max())
        w /= w.sum()
        mean = float(w @ grid)
        low, median, high = weighted_quantile(grid, w, [0.05, 0.5, 0.95]).tolist()
        sd = float(np.sqrt(w @ (grid - mean) ** 2))
        found[name] = {"median": median, "sd": sd, "interval_90": [low, high]}
    return found


def fermi(run: Path) -> dict:
    summary = json.loads((run / "summary.json").read_text())
    parameters, config = summary["parameters"], yaml.safe_load((run / "config.yaml").read_text())
    above = []
    for flux, number in CATALOGUE_PER_SR.items():
        one = parameters[number_name(flux)]
        linear = {"median": 10 ** one["median"], "interval_90": [10**v for v in one["interval_90"]]}
        above.append({"threshold": flux, "catalogue": number, **linear})
    return {
        "nside": config["nside"],
        "above": above,
        "n2": parameters["n2"],
        "parameters": parameters,
        "detections": summary.get("detections"),
        "simulations": summary["simulations"],
        "warnings": summary["warnings"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=("detection", "fermi"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--commit", help="that the run was made with, where it is not the present one")
    options = parser.parse_args()
    found = {"detection": detection, "fermi": fermi}[options.recipe](options.run)
    meta = json.loads((options.run / "meta.json").read_text())
    entry = {**found, "wall_s": sum(s["wall_s"] for s in meta["sessions"]), **stamp()}
    entry["command"] = f"python validation/popsources_recipes.py {options.recipe} RUN"
    entry["commit"] = options.commit or entry["commit"]
    path = HERE / "results" / f"popsources_{options.recipe}.json"
    path.write_text(json.dumps(entry, indent=1) + "\n")


if __name__ == "__main__":
    main()
