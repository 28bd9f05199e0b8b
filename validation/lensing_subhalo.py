"""lensing/subhalo's map against the almost exact one, where images respond linearly to lens and source.

python validation/lensing_subhalo.py --runs FOLDER [--mocks 100]

The reference has d = mu0 + J dtheta + s + n with J from the simulator's own derivatives, Sigma the covariance in the
region of the fourteen parameters, and s averaged over twelve masses and positions within each bin:

    log r_k = log mean_s exp(s^T C^-1 (d - mu0) - s^T C^-1 s / 2),      C = 1 + J Sigma J^T

It shares no filters, components or weights with the network.  Mocks hold a subhalo of log10 M 9, 9.5 or 10 within 0.3
arcsec of the ring, or none; lens and source are drawn from the region.
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

from tmnre import Place
from tmnre.plugin import find_recipe
from tmnre_lensing import regions
from tmnre_lensing.subhalo import filters, targeted, verdict

RESULTS = Path(__file__).parent / "results"
MASSES = (9.0, 9.5, 10.0)


class Reference:
    """log r (N, K) of images by the linear formula."""

    def __init__(self, work, region: np.ndarray) -> None:
        self.work, simulator = work, work.simulator
        self.centre = region.mean(0, keepdims=True)
        free = [i for i, name in enumerate(simulator.prior.names) if name not in targeted.SUBHALO]
        self.centre[:, simulator.prior.columns(targeted.SUBHALO)] = [0.0, 0.0, 0.0]
        at = torch.from_numpy(self.centre)
        image = lambda part: simulator.whitened(simulator.images(_with(at, free, part)))[0]  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(image, at[0, free])
        self.mean = image(at[0, free]).detach()
        sigma = torch.from_numpy(np.cov(region[:, free].T))
        covariance = torch.eye(len(self.mean), dtype=torch.float64) + jacobian @ sigma @ jacobian.T
        self.inverse = torch.linalg.inv(covariance)

    def log_ratio(self, images: torch.Tensor) -> torch.Tensor:
        """log r (N, K) of images (N, ny, nx), normalised against the prior of bins."""
        bins, simulator = self.work.bins, self.work.simulator
        solved = (simulator.whitened(images).double() - self.mean) @ self.inverse
        step, wide = bins.grid.pixel_arcsec / 4, (bins.edges[1] - bins.edges[0]) / 3
        total = None
        shifts = [(x, y, m) for x in (-step, step) for y in (-step, step) for m in (-wide, 0.0, wide)]
        for shift in tqdm(shifts, desc="reference", mininterval=20):
            s = filters.signals(simulator, self.centre, bins.at_centres() + shift).double()
            log_r = solved @ s.T - 0.5 * torch.einsum("kp,kp->k", s @ self.inverse, s)
            total = log_r if total is None else torch.logaddexp(total, log_r)
        logits = torch.cat([torch.zeros(len(images), 1), total - np.log(len(shifts))], dim=1)
        return torch.log_softmax(logits + bins.log_prior, dim=1) - bins.log_prior


def _with(at: torch.Tensor, columns: list[int], part: torch.Tensor) -> torch.Tensor:
    theta = at.clone()
    theta[0, columns] = part
    return theta


def mocks(work, region: np.ndarray, log10_m: float | None, n: int, seed: int):
    """theta (n, D) and noisy images (n, ny, nx)."""
    rng = np.random.default_rng(seed)
    theta = region[rng.integers(len(region), size=n)]
    centre = theta.mean(0)
    names = work.simulator.prior.names
    r = centre[names.index("lens_theta_e_arcsec")] + rng.uniform(-0.3, 0.3, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    subhalo = np.stack([r * np.cos(angle), r * np.sin(angle), np.full(n, log10_m or 0.0)], 1)
    theta[:, work.simulator.prior.columns(targeted.SUBHALO)] = subhalo
    clean = torch.from_numpy(work.simulator.simulate(theta, rng)["image"])
    return theta, work.simulator.noise.add(clean, torch.Generator().manual_seed(seed))


def found(log_r: torch.Tensor, work, theta: np.ndarray) -> dict[str, float]:
    """Localisation error and mass bias of maps, given a subhalo; shares found."""
    columns = work.simulator.prior.columns(targeted.SUBHALO)
    each = [verdict.verdict(row, work.bins) for row in log_r]
    place = np.array([v["position_mean_arcsec"] for v in each])
    mass = np.array([v["log10_m200_mean"] for v in each])
    apart = np.hypot(*(place - theta[:, columns[:2]]).T)
    bayes = np.array([v["log10_bayes_factor"] for v in each])
    seen = bayes > 1
    return {
        "found": float(seen.mean()),
        "localisation_median_arcsec": float(np.median(apart[seen])) if seen.any() else None,
        "mass_bias_dex": float((mass - theta[:, columns[2]])[seen].mean()) if seen.any() else None,
        "log10_bayes_factor_median": float(np.median(bayes)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--mocks", type=int, default=100)
    options = parser.parse_args()
    recipe = find_recipe("lensing/subhalo")
    work = recipe.build(recipe.settings())
    result = work.run(Place(options.runs / "lensing-subhalo", progress=partial(tqdm, disable=True)))
    region = regions.of_last(work.rounds)
    reference = Reference(work, region)
    table, all_images, all_theta = {}, [], []
    for seed, log10_m in enumerate((None, *MASSES)):
        theta, images = mocks(work, region, log10_m, options.mocks, 50 + seed)
        all_theta.append(theta)
        all_images.append(images)
    exact = reference.log_ratio(torch.cat(all_images)).split(options.mocks)
    bins = work.bins
    for i, log10_m in enumerate((None, *MASSES)):
        with torch.no_grad():
            network = torch.cat([work.network.log_ratio({"image": part}) for part in all_images[i].split(50)])
            linear = torch.cat([work.network.linear_log_ratio({"image": part}) for part in all_images[i].split(50)])
        p = verdict.posterior(exact[i], bins)
        row = {
            "kl_network": (p * (exact[i] - network)).sum(1),
            "kl_filters_alone": (p * (exact[i] - linear)).sum(1),
        }
        row = {name: {"median": float(v.median()), "mean": float(v.mean())} for name, v in row.items()}
        for name, log_r in (("network", network), ("exact", exact[i])):
            row[name] = (
                found(log_r, work, all_theta[i])
                if log10_m
                else {"false_alarms": float((verdict.log10_bayes_factor(log_r, bins) > 1).double().mean())}
            )
        table["none" if log10_m is None else str(log10_m)] = row
        print(log10_m, row, flush=True)
    summary = {**stamp(), "mocks": options.mocks, "peak_snr": float(work.image.max() / work.simulator.noise.sd)}
    summary |= {"masses": table, "on_mocks": work.reliability, "simulations": result.simulations}
    (RESULTS / "lensing_subhalo.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
