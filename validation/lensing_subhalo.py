"""lensing/subhalo's map against the almost exact one, where images respond linearly to lens and source.

python validation/lensing_subhalo.py --runs FOLDER [--snr 50 100] [--mocks 100]

The reference linearises every image about its own best lens and source, theta, without a subhalo: found by Gauss and
Newton's method under a Gaussian prior N(theta0, Sigma), the moments of the region.  With J the derivatives there, and s
averaged over twelve masses and positions within each bin,

    log r_k = log mean_s exp(s^T C^-1 e - s^T C^-1 s / 2)
    e = d - mu(theta) - J (theta0 - theta),  C = 1 + J Sigma J^T

It shares no filters, components or weights with the network.  Mocks hold a subhalo of log10 M 9, 9.5 or 10 within 0.3
arcsec of the ring, or none; lens and source are drawn from the region.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

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
        self.work, prior = work, work.simulator.prior
        self.free = [i for i, name in enumerate(prior.names) if name not in targeted.SUBHALO]
        self.centre = region.mean(0, keepdims=True)
        self.centre[:, prior.columns(targeted.SUBHALO)] = [0.0, 0.0, 0.0]
        self.mean = torch.from_numpy(self.centre[0, self.free])
        covariance = torch.from_numpy(np.cov(region[:, self.free].T))
        self.sd, self.precision = covariance.diagonal().sqrt(), torch.linalg.inv(covariance)
        self.ends = [torch.from_numpy(end) for end in (region[:, self.free].min(0), region[:, self.free].max(0))]

    def images(self, parts: torch.Tensor) -> torch.Tensor:
        """Whitened images (n, P) without subhalo of lens and source (n, 14)."""
        theta = torch.from_numpy(self.centre).repeat(len(parts), 1)
        theta[:, self.free] = parts
        return self.work.simulator.whitened(self.work.simulator.images(theta))

    def linear(self, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (P,) of lens and source (14,), and its derivatives (P, 14) by central differences."""
        steps = torch.diag(1e-3 * self.sd)
        mu, ahead, behind = self.images(torch.cat([part[None], part + steps, part - steps])).split(
            [1, *2 * [len(part)]]
        )
        return mu[0], ((ahead - behind) / (2e-3 * self.sd[:, None])).T

    def fit(self, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """e (P,) and J (P, 14) of a whitened image (P,)."""
        part, reach = self.mean, 1.0
        mu, j = self.linear(part)

        def misfit(part: torch.Tensor, mu: torch.Tensor) -> float:
            off = part - self.mean
            return float((d - mu).square().sum() + off @ self.precision @ off)

        for _ in range(12):
            pull = j.T @ (d - mu) + self.precision @ (self.mean - part)
            step = torch.linalg.solve(j.T @ j + self.precision, pull)
            before, reach = misfit(part, mu), min(1.0, 2 * reach)
            tried = (part + reach * step).clamp(*self.ends)
            while misfit(tried, self.images(tried[None])[0]) > before and reach > 1e-3:
                reach /= 2
                tried = (part + reach * step).clamp(*self.ends)
            part = tried
            mu, j = self.linear(part)
            if before - misfit(part, mu) < 0.01:
                break
        return d - mu - j @ (self.mean - part), j

    def log_ratio(self, images: torch.Tensor) -> torch.Tensor:
        """log r (N, K) of images (N, ny, nx), normalised against the prior of bins."""
        bins, simulator = self.work.bins, self.work.simulator
        whitened = simulator.whitened(images).double()
        fits = [self.fit(d) for d in tqdm(whitened, desc="fitting", mininterval=20)]
        e, j = (torch.stack(part) for part in zip(*fits, strict=True))
        # C^-1 = 1 - G G^T, G = J L with L L^T = (J^T J + Sigma^-1)^-1
        g = j @ torch.linalg.cholesky(torch.linalg.inv(j.mT @ j + self.precision))
        solved = (e - (g @ (g.mT @ e[..., None]))[..., 0]).float()
        g = g.float()
        step, wide = bins.grid.pixel_arcsec / 4, (bins.edges[1] - bins.edges[0]) / 3
        total = None
        shifts = [(x, y, m) for x in (-step, step) for y in (-step, step) for m in (-wide, 0.0, wide)]
        for shift in tqdm(shifts, desc="reference", mininterval=20):
            s = filters.signals(simulator, self.centre, bins.at_centres() + shift)
            lost = torch.stack([(s @ of_one).square().sum(1) for of_one in g])
            log_r = (solved @ s.T - 0.5 * (s.square().sum(1) - lost)).double()
            total = log_r if total is None else torch.logaddexp(total, log_r)
        logits = torch.cat([torch.zeros(len(images), 1), total - np.log(len(shifts))], dim=1)
        return torch.log_softmax(logits + bins.log_prior, dim=1) - bins.log_prior


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


def settings_at(recipe, snr: float | None):
    """The defaults, with a noise that gives the brightest pixel this signal-to-noise ratio; None: as it is."""
    settings = recipe.settings()
    if snr is None:
        return settings
    work = recipe.build(settings)
    truth = np.array([[work.analysis.truth[name] for name in work.simulator.prior.names]])
    brightest = work.simulator.simulate(truth, np.random.default_rng(0))["image"].max()
    return replace(settings, camera=replace(settings.camera, noise_e_per_s=float(brightest / snr)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--mocks", type=int, default=100)
    parser.add_argument("--snr", type=float, nargs="*", default=[50.0, 100.0])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    for snr in options.snr:
        found = at(snr, options)
        (RESULTS / f"lensing_subhalo-{snr:.0f}.json").write_text(json.dumps(found, indent=1) + "\n")


def at(snr: float, options: argparse.Namespace) -> dict[str, Any]:
    """A run with this signal-to-noise ratio, and its maps beside the reference's."""
    recipe = find_recipe("lensing/subhalo")
    work = recipe.build(replace(settings_at(recipe, snr), workers=options.workers))
    started = time.time()
    result = work.run(Place(options.runs / f"lensing-subhalo-{snr:.0f}", progress=partial(tqdm, disable=True)))
    wall_s = round(time.time() - started)
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
    summary = {**stamp(), "mocks": options.mocks, "peak_snr": snr, "wall_s": wall_s}
    return summary | {"masses": table, "on_mocks": work.reliability, "simulations": result.simulations}


if __name__ == "__main__":
    main()
