"""Mocks made by lenstronomy, analysed by the network of lensing/demo or lensing/mock: is its coverage the same?

    python validation/lensing_lenstronomy.py demo --runs FOLDER [--mocks 1000]

Needs lenstronomy beside tmnre (`pip install lenstronomy==1.14.2`).  FOLDER is where lensing_exact.py has put its run.
Parameters are drawn from the run's last region; each mock has one image by our simulator and one by lenstronomy, both
with the same noise.  What differs is the code alone: ray shooting, profiles, the pixel's average, the convolution.
Writes results/lensing_lenstronomy.json.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from provenance import stamp
from tqdm import tqdm

from tmnre.diagnostics import coverage, ranks
from tmnre.plugin import find_recipe
from tmnre.rounds import Rounds
from tmnre_lensing.light import sersic_b
from tmnre_lensing.simulator import LensSimulator

RESULTS = Path(__file__).parent / "results"
PRIOR_DRAWS = 4000


class Theirs:
    """Noise-free images of the same scene by lenstronomy; angles from +x turn the signs of e1, e2, gamma1, gamma2."""

    def __init__(self, simulator: LensSimulator) -> None:
        from lenstronomy.Data.imaging_data import ImageData
        from lenstronomy.Data.psf import PSF
        from lenstronomy.ImSim.image_model import ImageModel
        from lenstronomy.LensModel.lens_model import LensModel
        from lenstronomy.LightModel.light_model import LightModel

        grid, optics = simulator.optics.grid, simulator.optics
        # light from beyond the field is blurred into it in both
        self.margin = optics.margin
        ny, nx = (n + 2 * self.margin for n in grid.shape)
        axes = {"transform_pix2angle": np.eye(2) * grid.pixel_arcsec}
        first = {f"{axis}_at_xy_0": -(n - 1) / 2 * grid.pixel_arcsec for axis, n in (("ra", nx), ("dec", ny))}
        data = ImageData(image_data=np.zeros((ny, nx)), **axes, **first)
        kernel = {"kernel_point_source": optics.psf, "point_source_supersampling_factor": grid.oversampling}
        self.model = ImageModel(
            data,
            PSF("PIXEL", **kernel),
            lens_model_class=LensModel(["EPL", "SHEAR"]),
            source_model_class=LightModel(["SERSIC_ELLIPSE"]),
            kwargs_numerics={"supersampling_factor": grid.oversampling, "supersampling_convolution": True},
        )
        self.simulator = simulator

    def image(self, theta: np.ndarray) -> np.ndarray:
        """One image (ny, nx)."""
        names = self.simulator.prior.names
        v = {**self.simulator.scene.fixed, **dict(zip(names, theta.tolist(), strict=True))}
        lens = {
            **{"theta_E": v["lens_theta_e_arcsec"], "gamma": v.get("lens_slope", 2.0)},
            **{"e1": -v["lens_e1"], "e2": -v["lens_e2"]},
            **{"center_x": v.get("lens_x_arcsec", 0.0), "center_y": v.get("lens_y_arcsec", 0.0)},
        }
        shear = {"gamma1": -v["shear_gamma1"], "gamma2": -v["shear_gamma2"], "ra_0": 0, "dec_0": 0}
        n = v["source_n"]
        # their b_n is approximate: the same profile in their terms
        b, theirs = float(sersic_b(torch.tensor(n, dtype=torch.float64))), 1.9992 * n - 0.3271
        source = {
            **{"amp": v["source_brightness"] * np.exp(b - theirs), "n_sersic": n},
            **{"R_sersic": v["source_r_eff_arcsec"] * (theirs / b) ** n},
            **{"e1": -v["source_e1"], "e2": -v["source_e2"]},
            **{"center_x": v["source_x_arcsec"], "center_y": v["source_y_arcsec"]},
        }
        inner = slice(self.margin, -self.margin or None)
        return self.model.image([lens, shear], [source])[inner, inner]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=["demo", "mock"])
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--mocks", type=int, default=1000)
    options = parser.parse_args()
    recipe = find_recipe(f"lensing/{options.recipe}")
    work = recipe.build(recipe.settings())
    analysis, folder = getattr(work, "analysis", work), options.runs / f"lensing-{options.recipe}-0-0"
    rounds = Rounds(analysis, folder / "lens" if analysis is not work else folder, progress=partial(tqdm, disable=True))
    rounds.run()
    rng = np.random.default_rng(1)
    simulator = analysis.simulator
    u = rounds.region.sample(options.mocks, rng)
    theta = simulator.prior.from_cube(u)
    ours = simulator.simulate(theta, rng)["image"]
    other = Theirs(simulator)
    theirs = np.stack([other.image(row) for row in tqdm(theta, mininterval=20)]).astype("f4")
    seen = simulator.reduced(rounds.last.reduction) if rounds.last.reduction else simulator
    truth = {**dict(zip(simulator.prior.names, torch.from_numpy(u).T, strict=True))}
    truth |= simulator.derive(torch.from_numpy(theta))
    z = torch.stack([truth[name].double() for name in rounds.asked.targets], dim=1)
    prior_z = rounds.last.z[:PRIOR_DRAWS]
    table, below = {}, {}
    for who, images in (("tmnre", ours), ("lenstronomy", theirs)):
        generator = torch.Generator().manual_seed(2)
        x = seen.observe({"image": torch.from_numpy(images)}, torch.from_numpy(theta), generator)
        with torch.no_grad():
            below[who] = ranks(rounds.last.estimator, x, z, prior_z)
        table[who] = {name: coverage(rank) for name, rank in below[who].items()}
    found = {
        **stamp(),
        "mocks": options.mocks,
        "largest_difference_over_peak": float(np.abs(ours - theirs).max() / ours.max()),
        "largest_difference_over_noise": float(np.abs(ours - theirs).max() / simulator.noise.sd),
        "coverage": table,
        "rank_shift_rms": {
            name: float(np.sqrt(np.mean((rank - below["lenstronomy"][name]) ** 2)))
            for name, rank in below["tmnre"].items()
        },
    }
    path = RESULTS / "lensing_lenstronomy.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, options.recipe: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
