"""Two overlapping fields with the defaults of fields/separation, against the exact linear formula and over many mocks.

    python validation/fields_separation.py --runs DIR [--mocks 400] [--draws 400]

The recipe is run once.  Its first round does not depend on the observation, so that one network serves mocks from the
prior as well; for the run's own observation all rounds are compared.  Everything here is dense and in double precision,
in the pixels s of both components: what is exact by the Wiener filter in the data's space,

    mean = S A^T (A S A^T + N)^-1 x,      covariance = S - S A^T (A S A^T + N)^-1 A S,

what was learned by its precision S^-1 + A^T d A, and the recipe's solver must agree with both.  Coverage is of pixels,
where a mock counts once however many pixels it has, and of power by wavenumber, mean and rms of each component, by
ranks among draws.  Negative tests: what was learned with its spread divided by 1.5, and shifted by half a standard
deviation.  Writes results/fields_separation.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from provenance import stamp
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from tmnre.diagnostics import sbc
from tmnre.procedure import Place
from tmnre_fields.forward import FieldModel
from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior
from tmnre_fields.recipes.separation import Settings, build

RESULTS = Path(__file__).parent / "results" / "fields_separation.json"
LEVELS = (0.5, 0.68, 0.9, 0.95)
CONTROLS = {"learned": (1.0, 0.0), "too narrow": (1 / 1.5, 0.0), "shifted": (1.0, 0.5)}
"""factor on what was learned as the standard deviation, and shift of its mean in these"""


class Spread:
    """A covariance (K, K) of all pixels of all components, by its inverse lower lower^T."""

    def __init__(self, lower: Tensor) -> None:
        self.lower = lower
        self.covariance = torch.cholesky_inverse(lower)
        self.sd = self.covariance.diagonal().sqrt()

    def root(self, rows: slice) -> Tensor:
        """Lower triangle of the covariance of these pixels alone."""
        return torch.linalg.cholesky(self.covariance[rows, rows])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws around zero (n, K)."""
        white = torch.randn(len(self.lower), n, generator=generator, dtype=self.lower.dtype)
        return torch.linalg.solve_triangular(self.lower.T, white, upper=True).T


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A posterior of all pixels."""

    mean: Tensor
    spread: Spread

    @property
    def sd(self) -> Tensor:
        return self.spread.sd


class Dense:
    """The model in matrices: prior S, mixing and mask A, noise N."""

    def __init__(self, model: FieldModel) -> None:
        self.names = [component.name for component in model.components]
        self.seen = model.observed.flatten() > 0
        self.mixing = model.response.mixing.double()
        power = model.power()[0].double()
        prior = torch.block_diag(*(circulant(p) for p in power))
        self.precision = torch.block_diag(*(circulant(1 / p) for p in power))
        a = torch.kron(self.mixing, torch.eye(power.shape[1] ** 2, dtype=torch.float64))[self.seen]
        noise = torch.as_tensor(model.noise).expand_as(model.observed).flatten()[self.seen].double()
        self._filter = torch.linalg.solve(a @ prior @ a.T + noise.square().diag(), a @ prior).T
        covariance = prior - self._filter @ a @ prior
        self._spread = Spread(torch.linalg.cholesky(torch.linalg.inv((covariance + covariance.T) / 2)))
        self.marginal_error = self._against_marginal_formula(covariance, prior, a, noise)

    def _against_marginal_formula(self, covariance: Tensor, prior: Tensor, a: Tensor, noise: Tensor) -> float:
        """How far the first block is from (S_1^-1 + A_1^T (A_2 S_2 A_2^T + N)^-1 A_1)^-1, relative to its largest."""
        k = len(prior) // len(self.names)
        first, rest = a[:, :k], a[:, k:]
        q = first.T @ torch.linalg.solve(rest @ prior[k:, k:] @ rest.T + noise.square().diag(), first)
        marginal = torch.linalg.inv(self.precision[:k, :k] + q)
        return float((marginal - covariance[:k, :k]).abs().max() / marginal.max())

    def exact(self, x: Tensor) -> Gaussian:
        """The posterior of data x (V, n, n)."""
        return Gaussian(self._filter @ x.flatten()[self.seen].double(), self._spread)

    def learned(self, information: Information) -> Gaussian:
        """The posterior with learned information, a batch of one with nothing but a pixel part."""
        if information.mode is not None or information.low_rank is not None:
            raise ValueError("dense matrices are built of the pixel part only, got a mode or low-rank part as well")
        d, pull = information.pixel[0].flatten(1).double(), information.pull[0].flatten(1).double()
        components, pixels = len(self.names), d.shape[1]
        precision = self.precision.clone().view(components, pixels, components, pixels)
        blocks = torch.einsum("vc,vd,vp->cdp", self.mixing, self.mixing, d)
        precision.diagonal(dim1=1, dim2=3).add_(blocks)
        lower = torch.linalg.cholesky(precision.reshape(self.precision.shape))
        b = (self.mixing.T @ pull).flatten()
        return Gaussian(torch.cholesky_solve(b[:, None], lower)[:, 0], Spread(lower))


def circulant(power: Tensor) -> Tensor:
    """Covariance (n^2, n^2) of the pixels of a periodic field with power (n, n // 2 + 1)."""
    n = power.shape[0]
    correlation = torch.fft.irfft2(power, s=(n, n))
    i = torch.arange(n)
    apart = (i[:, None] - i) % n
    return correlation[apart[:, None, :, None], apart[None, :, None, :]].reshape(n * n, n * n)


def divergence(p: Gaussian, q: Gaussian, rows: slice) -> float:
    """KL(p || q) in nat of the marginals of these pixels."""
    apart = (p.mean - q.mean)[rows, None]
    lower_p, lower_q = (g.spread.root(rows) for g in (p, q))
    root = torch.linalg.solve_triangular(lower_q, torch.cat([lower_p, apart], 1), upper=False)
    log_det = 2 * (lower_q.diagonal().log() - lower_p.diagonal().log()).sum()
    return float(0.5 * (root.square().sum() - len(apart) + log_det))


class Groups:
    """Pixels of each component inside and outside the mask: {"smooth, observed": (K,) bool, ...}."""

    def __init__(self, model: FieldModel) -> None:
        observed = model.observed[0].flatten() > 0
        self.where: dict[str, Tensor] = {}
        for i, component in enumerate(model.components):
            for name, pixels in (("observed", observed), ("masked", ~observed)):
                parts = [torch.zeros_like(pixels)] * len(model.components)
                parts[i] = pixels
                self.where[f"{component.name}, {name}"] = torch.cat(parts)

    def means(self, values: Tensor) -> dict[str, float]:
        """Of values (K,)."""
        return {name: float(values[where].double().mean()) for name, where in self.where.items()}


def against(found: Gaussian, exact: Gaussian, truth: Tensor, groups: Groups) -> dict[str, dict[str, float]]:
    """Squares and ratios of one observation, by group."""
    e_sd = exact.sd
    parts = {
        "mean_error_sd": ((found.mean - exact.mean) / e_sd).square(),
        "variance_ratio": (found.sd / e_sd).square(),
        "z_score": ((truth - found.mean) / found.sd).square(),
        "z_score_exact": ((truth - exact.mean) / e_sd).square(),
    }
    return {name: groups.means(values) for name, values in parts.items()}


def averaged(entries: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """By group: rms of errors and z-scores, means of ratios, over observations."""
    mean = {name: {g: np.mean([e[name][g] for e in entries]) for g in entries[0][name]} for name in entries[0]}
    return {
        group: {
            "mean_error_sd_rms": float(mean["mean_error_sd"][group] ** 0.5),
            "variance_ratio": float(mean["variance_ratio"][group]),
            "z_score_rms": float(mean["z_score"][group] ** 0.5),
            "z_score_rms_exact": float(mean["z_score_exact"][group] ** 0.5),
        }
        for group in mean["variance_ratio"]
    }


def quantities(fields: Tensor, model: FieldModel) -> Tensor:
    """Of fields (S, K): power by wavenumber, mean and rms of every component (S, Q)."""
    sky = model.response.sky
    maps = fields.unflatten(1, (len(model.components), *sky.grid))
    power = sky.binned(sky.modes(maps))
    pixels = maps.flatten(2)
    scalars = torch.stack([pixels.mean(2), pixels.std(2, correction=0)], 2)
    return torch.cat([power, scalars], 2).flatten(1)


def quantity_names(model: FieldModel) -> list[str]:
    bins = range(len(model.response.sky.bin_centres))
    return [f"{c.name} {what}" for c in model.components for what in (*(f"bin {i}" for i in bins), "mean", "rms")]


class Coverage:
    """Truths inside central intervals of one kind of posterior, mock by mock."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.inside: dict[tuple[str, float], list[float]] = {(g, level): [] for g in groups.where for level in LEVELS}
        self.truths: list[Tensor] = []
        self.drawn: list[Tensor] = []

    def add(self, z: Tensor, truth: Tensor, drawn: Tensor) -> None:
        """z-scores of pixels (K,); quantities of the truth (Q,) and of draws (S, Q)."""
        for level in LEVELS:
            inside = z.abs() < stats.norm.ppf(0.5 + level / 2)
            for group, share in self.groups.means(inside).items():
                self.inside[group, level].append(share)
        self.truths.append(truth)
        self.drawn.append(drawn)

    def found(self, names: list[str]) -> dict:
        mocks = len(self.truths)
        pixels: dict[str, dict[str, list[float]]] = {group: {} for group in self.groups.where}
        sigma = []
        for (group, level), shares in self.inside.items():
            # mocks are independent, their pixels are not
            error = float(np.std(shares, ddof=1) / mocks**0.5)
            pixels[group][f"{level:.2f}"] = [float(np.mean(shares)), error]
            sigma.append((np.mean(shares) - level) / error)
        truths, drawn = torch.stack(self.truths).numpy(), torch.stack(self.drawn).numpy()
        below = (drawn < truths[:, None]).sum(1)
        # anywhere between two draws
        rank = (below + np.random.default_rng(0).random(below.shape)) / (drawn.shape[1] + 1)
        covered = {f"{level:.2f}": (np.abs(rank - 0.5) < level / 2).mean(0) for level in LEVELS}
        binomial = [(c - float(v)) / np.sqrt(float(v) * (1 - float(v)) / mocks) for v, c in covered.items()]
        check = sbc(truths, drawn, names)
        kinds = {"power by wavenumber": "bin", "mean and rms": ("mean", "rms")}
        of = {kind: [i for i, n in enumerate(names) if n.split()[1] in np.atleast_1d(w)] for kind, w in kinds.items()}
        return {
            "pixels": pixels,
            "pixels_worst_sigma": float(np.abs(sigma).max()),
            "pixels_band_sigma": band(len(sigma), mocks),
            "quantities": {kind: {v: float(c[i].mean()) for v, c in covered.items()} for kind, i in of.items()},
            "quantities_worst_sigma": float(np.abs(binomial).max()),
            "quantities_band_sigma": band(np.size(binomial)),
            "ranks_p": check.p_value,
            "ranks_passed": check.passed,
            "ranks_worst": min(names, key=lambda name: check.numbers[f"p_{name}"]),
        }


def band(comparisons: int, mocks: int | None = None) -> float:
    """Largest departure, in sd, of so many comparisons that a calibrated posterior stays within with 95%."""
    tail = 0.5 + 0.95 ** (1 / comparisons) / 2
    return float(stats.norm.ppf(tail) if mocks is None else stats.t.ppf(tail, mocks - 1))


def solver(pairs: Iterable[tuple[Information, Gaussian]], model: FieldModel) -> dict[str, float]:
    """The recipe's conjugate gradients against dense matrices: means in sd, and variances of 800 draws."""
    sky, errors, ratios = model.response.sky, [], []
    for number, (information, wanted) in enumerate(pairs):
        posterior = Posterior(information, model.power())
        mean = sky.fields(posterior.mean())[0].flatten().double()
        errors.append(((mean - wanted.mean) / wanted.sd).square().mean())
        draws = sky.fields(posterior.draw(800, torch.Generator().manual_seed(number))).flatten(1).double()
        ratios.append((draws.var(0) / wanted.sd.square()).mean())
    return {
        "observations": len(errors),
        "mean_error_sd_rms": float(torch.stack(errors).mean().sqrt()),
        "variance_ratio": float(torch.stack(ratios).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--mocks", type=int, default=400)
    parser.add_argument("--draws", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bar = partial(tqdm, mininterval=10)
    procedure = build(Settings())
    procedure.run(Place(args.runs, progress=bar))
    model, sky = procedure.model, procedure.model.response.sky
    dense, groups, names = Dense(model), Groups(model), quantity_names(model)
    pixels = sky.box**2
    blocks = {"both": slice(None), **{name: slice(i * pixels, (i + 1) * pixels) for i, name in enumerate(dense.names)}}

    truth = sky.fields(procedure.truth).flatten().double()
    exact = dense.exact(procedure.x)
    rounds = []
    for folder in sorted((args.runs / "rounds").iterdir()):
        found = dense.learned(procedure.information(procedure.network_of(folder)))
        figures = averaged([against(found, exact, truth, groups)])
        rounds.append({"groups": figures, "kl_nat": {b: divergence(exact, found, rows) for b, rows in blocks.items()}})

    net = procedure.network_of(args.runs / "rounds" / "00")
    generator = torch.Generator().manual_seed(10_000)
    z = model.draw(args.mocks, generator)
    x, truths = model.observe(model.signal(z), generator), sky.fields(z).flatten(1).double()
    with torch.no_grad():
        information = net({"x": x})
    weight = (model.observed / torch.as_tensor(model.noise).square())[None]
    few = range(min(3, args.mocks))
    learned = ((information[i : i + 1], dense.learned(information[i : i + 1])) for i in few)
    given = ((Information(model.response, weight, weight * x[i : i + 1]), dense.exact(x[i])) for i in few)
    solved = {"learned": solver(learned, model), "exact": solver(given, model)}
    covered = {kind: Coverage(groups) for kind in ("exact", *CONTROLS)}
    entries, divergences = [], []
    for i in bar(range(args.mocks), desc="mocks", unit="mock"):
        found, exact = dense.learned(information[i : i + 1]), dense.exact(x[i])
        entries.append(against(found, exact, truths[i], groups))
        divergences.append([divergence(exact, found, rows) for rows in blocks.values()])
        true = quantities(truths[i : i + 1], model)[0]
        draws = {of: of.spread.draw(args.draws, torch.Generator().manual_seed(i)) for of in (exact, found)}
        for kind, one in covered.items():
            of, (factor, shift) = (exact, (1.0, 0.0)) if kind == "exact" else (found, CONTROLS[kind])
            mean, sd = of.mean + shift * of.sd, factor * of.sd
            one.add((truths[i] - mean) / sd, true, quantities(mean + factor * draws[of], model))
    entry = {
        **stamp(),
        "pixels": sky.pixels,
        "mocks": args.mocks,
        "draws": args.draws,
        "first_round": averaged(entries),
        "kl_nat": dict(zip(blocks, np.mean(divergences, 0).tolist(), strict=True)),
        "coverage": {kind: one.found(names) for kind, one in covered.items()},
        "rounds_of_run": rounds,
        "solver": solved,
        "marginal_formula_error": dense.marginal_error,
    }
    RESULTS.write_text(json.dumps(entry, indent=1) + "\n")
    print(json.dumps(entry, indent=1))


if __name__ == "__main__":
    main()
