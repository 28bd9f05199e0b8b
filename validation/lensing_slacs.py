"""lensing/slacs on J2303+1422 with its defaults: Einstein radius, residual, verdict on the fit.

python validation/lensing_slacs.py --runs FOLDER [--workers 4]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from provenance import stamp

from tmnre import run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre_lensing.figures import best_draw, critical_curve, einstein_radius_arcsec

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    recipe = find_recipe("lensing/slacs")
    settings = recipe.settings(workers=options.workers)
    analysis = recipe.build(settings)
    out = options.runs / "lensing-slacs"
    started = time.time()
    result = run.execute(
        analysis, out, config=typed.dump(settings), recipe="lensing/slacs", command=[], resume=out.exists()
    )
    simulator, image = analysis.simulator, analysis.observation["image"]
    theta = best_draw(result, simulator, image)
    residual = (image - simulator.images(torch.from_numpy(theta))[0].numpy()) / simulator.noise.sd
    check = result.rounds[-1]["goodness_of_fit"][0]
    found = {
        **stamp(),
        "wall_s": round(time.time() - started),
        "simulations": result.simulations,
        "pixels": int(simulator.mask.sum()),
        "einstein_radius_best_draw": einstein_radius_arcsec(critical_curve(simulator, theta)[0]),
        "theta_e": result["lens_theta_e_arcsec"].summary()["median"],
        "chi2": float((residual[simulator.mask] ** 2).mean()),
        "blocks": len(analysis.observation["blocks"]),
        "p_value": check["p_value"],
        "passed": check["passed"],
        "parameters": {
            name: [result[name].summary()["median"], *result[name].interval(0.9)[0].tolist()] for name in result.names
        },
    }
    (RESULTS / "lensing_slacs.json").write_text(json.dumps(found, indent=1) + "\n")
    print(found["theta_e"], found["chi2"], check)


if __name__ == "__main__":
    main()
