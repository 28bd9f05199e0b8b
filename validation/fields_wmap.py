"""fields/wmap on the real maps: C_l against the published best fit, residuals, and what mock skies say of it all.

    python validation/fields_wmap.py --runs DIR [--variants default fewer foreground noise] [--mocks 12] [--draws 24]

The recipe runs with its defaults, with fewer multipoles, with its foreground component, and with its noise inferred.
Of the real sky: power in bins of l, of draws of the whole sky and of what of them is outside the mask,
and chi-squared at 2 <= l <= 40; the same with a prior of 1.5 times the best fit's power, which must be refused.

The first round's network does not depend on the observation, so it serves mock skies drawn from the model with the
same mask and noise: z-scores of pixels, observed and masked, and of modes by l, ranks of the truth's power among draws,
chi-squared of every mock against both spectra.  Negative test: mocks of 1.5 times the power.  Writes its parts, by
variant, of results/fields_wmap.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import healpy
import numpy as np
import torch
from provenance import stamp
from torch import Tensor
from tqdm import tqdm

from tmnre import run
from tmnre import settings as typed
from tmnre.diagnostics import sbc
from tmnre.plugin import find_recipe
from tmnre.result import Result
from tmnre_fields import noise_level, wmap
from tmnre_fields.posterior import Posterior
from tmnre_fields.recipes.wmap import COURSE, spectrum_check
from tmnre_fields.sequential import FieldRounds

RESULTS = Path(__file__).parent / "results" / "fields_wmap.json"
BINS = ((2, 5), (6, 10), (11, 20), (21, 30), (31, 40), (41, 60), (61, 80))
LOW, HIGH = 2, 40
"""multipoles of the verdict on a spectrum"""
WRONG_POWER = 1.5
REFUSED = 0.01
"""p below which a spectrum is refused"""
Z_SCORE = 0.05
"""asked for: departure of every z-score rms from 1, beside two errors of its own"""
FEWER = {"lmax": 80, "course": replace(COURSE, simulations=(300, 150), steps=(40, 20), thresholds=(10.0,))}
"""multipoles, in two rounds: the defaults before, with which pixels are not calibrated"""
VARIANTS = {
    "default": {},
    "fewer": FEWER,
    "foreground": {"foreground_uk": 5.0},
    "noise": {"infer_noise": True},
}


def ran(variant: str, folder: Path, bar: Callable[..., tqdm]) -> tuple[FieldRounds, Result, float]:
    """The recipe's procedure, its result, wall seconds."""
    recipe = find_recipe("fields/wmap")
    settings = replace(recipe.settings(), **VARIANTS[variant])
    procedure, out = recipe.build(settings), folder / variant
    how = {"recipe": "fields/wmap", "command": [], "resume": out.exists(), "progress": bar}
    result = run.execute(procedure, out, config=typed.dump(settings), **how)
    sessions = json.loads((out / "meta.json").read_text())["sessions"]
    return procedure, result, round(sum(session["wall_s"] for session in sessions))


def in_bins(c: np.ndarray) -> np.ndarray:
    """D_l = l (l + 1) C_l / 2 pi (..., B), mean over the modes of every bin, of C_l (..., lmax + 1)."""
    ell = np.arange(c.shape[-1])
    d, weight = c * ell * (ell + 1) / (2 * np.pi), 2 * ell + 1
    parts = [np.s_[..., low : high + 1] for low, high in BINS]
    return np.stack([(d[p] * weight[p]).sum(-1) / weight[p].sum() for p in parts], -1)


def outside(procedure: FieldRounds, maps: Tensor) -> np.ndarray:
    """D_l in bins (S, B) of what of maps (S, pixels) is outside the mask, less its monopole and dipole."""
    sky, seen = procedure.model.response.sky, procedure.model.observed[0] > 0
    at = np.stack(healpy.pix2vec(sky.nside, np.arange(sky.pixels)), 1)
    basis, _ = torch.linalg.qr(torch.from_numpy(np.insert(at, 0, 1, axis=1)).float()[seen])
    cut = torch.zeros_like(maps)
    cut[:, seen] = maps[:, seen] - maps[:, seen] @ basis @ basis.T
    return in_bins(sky.binned(sky.modes(cut) / sky.density).numpy())


def of_sky(procedure: FieldRounds, result: Result, out: Path) -> dict:
    """The real sky's CMB against the best fit."""
    model, found, c = procedure.model, procedure._found, wmap.lcdm()
    sky, generator = model.response.sky, torch.Generator().manual_seed(77)
    binned = sky.binned(torch.from_numpy(found.draw_modes[:, 0])).numpy()
    d, expected = in_bins(binned), in_bins(c[: sky.lmax + 1])
    z = model.draw(200, generator)
    prior, seen = (outside(procedure, maps) for maps in (sky.fields(z[:, 0]), torch.from_numpy(found.draws[:, 0])))
    data = model.observe(model.signal(z), generator).mean(1)
    bands, of_data = outside(procedure, data), outside(procedure, procedure.x.mean(0)[None])[0]
    information = procedure.information(procedure.network_of(sorted((out / "rounds").iterdir())[-1]))
    power = model.power()
    power[:, 0] *= WRONG_POWER
    wrong = Posterior(information, power).draw(len(binned), generator)[:, 0]
    rows = {
        f"{low}-{high}": {
            "model": expected[i],
            "cosmic_sd": expected[i] * (2 / ((high + 1) ** 2 - low**2)) ** 0.5,
            "draws_mean": d[:, i].mean(),
            "draws_sd": d[:, i].std(),
            "outside_ratio": seen[:, i].mean() / prior[:, i].mean(),
            "outside_ratio_sd": (seen[:, i].var() + prior[:, i].var()) ** 0.5 / prior[:, i].mean(),
            "data_ratio": of_data[i] / bands[:, i].mean(),
            "data_ratio_sd": bands[:, i].std() / bands[:, i].mean(),
        }
        for i, (low, high) in enumerate(BINS)
    }
    (m0, s0), (m1, s1) = found.rounds[0], found.rounds[-1]
    return {
        "bins": {name: {key: float(v) for key, v in row.items()} for name, row in rows.items()},
        "against_best_fit": spectrum_check(binned, c, LOW, HIGH),
        "against_wrong": spectrum_check(sky.binned(wrong).numpy(), WRONG_POWER * c, LOW, HIGH),
        "residual_rms": json.loads((out / "spectrum.json").read_text())["residual_rms_of_draws"],
        "rounds": result.extra["fields"]["rounds"],
        "last_round_apart_sd_rms": ((m1 - m0) / s1).__pow__(2).mean(1).__pow__(0.5).tolist(),
        "last_round_variance_ratio": (s1**2 / s0**2).mean(1).tolist(),
        "rms_uk": {component.name: float(found.mean[i].std()) for i, component in enumerate(model.components)},
        "sd_uk": {component.name: float(found.sd[i].mean()) for i, component in enumerate(model.components)},
    }


class Mocks:
    """z-scores, ranks and verdicts of mock skies, one by one."""

    def __init__(self, procedure: FieldRounds) -> None:
        self.procedure = procedure
        seen = procedure.model.observed[0] > 0
        self.where = {"observed": seen, "masked": ~seen}
        self.apart: list[Tensor] = []
        self.spread: list[Tensor] = []
        self.modes: list[np.ndarray] = []
        self.true: list[np.ndarray] = []
        self.drawn: list[np.ndarray] = []
        self.outside: list[np.ndarray] = []
        self.checks: dict[str, list[dict]] = {"best_fit": [], "wrong": []}

    def add(self, truth: Tensor, mean: Tensor, draws: Tensor, wrong: Tensor) -> None:
        """Modes truth, mean (C, M), draws (S, C, M); CMB draws (S, M) with the wrong prior."""
        sky, c = self.procedure.model.response.sky, wmap.lcdm()
        self.apart.append(sky.fields(truth - mean).square())
        self.spread.append(sky.fields(draws - mean).square().mean(0))
        binned = sky.binned(draws).numpy()
        expected = sky.binned(draws - mean).mean(0)
        self.modes.append(in_bins(sky.binned(truth - mean).numpy()) / in_bins(expected.numpy()))
        self.true.append(sky.binned(truth).numpy()[:, LOW : HIGH + 1].T)
        self.drawn.append(binned[..., LOW : HIGH + 1].transpose(2, 0, 1))
        seen, true = (outside(self.procedure, sky.fields(modes)).mean(0) for modes in (draws[:, 0], truth[:1]))
        self.outside.append(seen / true)
        self.checks["best_fit"].append(spectrum_check(binned[:, 0], c, LOW, HIGH))
        self.checks["wrong"].append(spectrum_check(sky.binned(wrong).numpy(), WRONG_POWER * c, LOW, HIGH))

    def found(self) -> dict:
        names = [component.name for component in self.procedure.model.components]
        bins = [f"{low}-{high}" for low, high in BINS]
        n = len(self.apart)
        # the spread hardly depends on the data: pooled over mocks it is known to a percent
        z2 = torch.stack(self.apart) / torch.stack(self.spread).mean(0)
        groups = {
            f"{name}, {g}": z2[:, i][:, w].mean(1).numpy()
            for i, name in enumerate(names)
            for g, w in self.where.items()
        }
        modes = np.stack(self.modes)
        groups |= {f"{name}, l {b}": modes[:, i, j] for i, name in enumerate(names) for j, b in enumerate(bins)}
        ratios = np.stack(self.outside, 1)
        rms = {g: float(v.mean() ** 0.5) for g, v in groups.items()}
        errors = {g: float(v.std(ddof=1) / n**0.5 / 2 / rms[g]) for g, v in groups.items()}
        # a multipole of a mock counts as one: the mask ties neighbours, a little
        ranks = sbc(np.concatenate(self.true), np.concatenate(self.drawn), names)
        return {
            "mocks": n,
            "z_score_rms": {g: [rms[g], errors[g]] for g in groups},
            "passed": all(abs(rms[g] - 1) < Z_SCORE + 2 * errors[g] for g in groups),
            "outside_ratio": {
                b: [float(r.mean()), float(r.std(ddof=1) / n**0.5)] for b, r in zip(bins, ratios, strict=True)
            },
            "ranks_p": ranks.p_value,
            "ranks_passed": ranks.passed,
            "ranks_spread": {name: ranks.numbers[f"spread_{name}"] for name in names},
            "spectrum": {
                kind: {
                    "ratio_mean": float(np.mean([check["ratio"] for check in checks])),
                    "ratio_sd": float(np.std([check["ratio"] for check in checks], ddof=1)),
                    "refused": int(sum(check["p_value"] < REFUSED for check in checks)),
                    "of": len(checks),
                }
                for kind, checks in self.checks.items()
            },
        }


def of_mocks(procedure: FieldRounds, result: Result, out: Path, mocks: int, draws: int, bar) -> dict:
    """Calibration of the first round's network, and of mocks with too much power in the CMB."""
    model, net = procedure.model, procedure.network_of(out / "rounds" / "00")
    generator = torch.Generator().manual_seed(10_000)
    thetas = None if procedure.first is None else result[tuple(model.prior.names)]
    theta = procedure.parameters(thetas, mocks, 900)
    power, raised = model.power(), model.power()
    raised[:, 0] *= WRONG_POWER
    white = model.response.sky.white((mocks, len(model.components)), generator)
    kinds = {}
    for kind, of in (("mocks", power), ("too much power", raised)):
        z = of.sqrt() * white
        x = model.observe(model.signal(z), generator, theta)
        with torch.no_grad():
            information = net({"x": x})
        means, kept = Posterior(information, power).mean(), Mocks(procedure)
        for i in bar(range(mocks), desc=kind, unit="mock"):
            one = information[i : i + 1]
            drawn = Posterior(one, power).draw(draws, torch.Generator().manual_seed(i))
            wrong = Posterior(one, raised).draw(draws, torch.Generator().manual_seed(i))[:, 0]
            kept.add(z[i], means[i], drawn, wrong)
        kinds[kind] = kept.found()
    return kinds


def of_noise(procedure: FieldRounds, result: Result) -> dict[str, float]:
    """The factor that was inferred, beside the exact posterior if the bands disagreed on noise alone."""
    marginal = result["noise_factor"].summary()
    d = noise_level.Disagreement(replace(procedure.model, prior=None, noise_factor=None)).difference(procedure.x[None])
    f = np.linspace(0.5, 2.0, 20_001)
    log_p = -(d.numel() + 1) * np.log(f) - 0.5 * float(d.double().square().sum()) / f**2
    weights = np.exp(log_p - log_p.max())
    mean = np.average(f, weights=weights)
    return {
        "mean": marginal["mean"],
        "sd": marginal["sd"],
        "noise_alone_mean": float(mean),
        "noise_alone_sd": float(np.average((f - mean) ** 2, weights=weights) ** 0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--mocks", type=int, default=12)
    parser.add_argument("--draws", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bar = partial(tqdm, mininterval=10)
    for variant in args.variants:
        procedure, result, wall_s = ran(variant, args.runs, bar)
        out = args.runs / variant
        entry = {
            **stamp(),
            "wall_s": wall_s,
            "pixels": int(procedure.model.observed[0].sum()),
            "sky": of_sky(procedure, result, out),
            "calibration": of_mocks(procedure, result, out, args.mocks, args.draws, bar),
        }
        if procedure.first is not None:
            entry["noise_factor"] = of_noise(procedure, result)
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(kept | {variant: entry}, indent=1) + "\n")
        print(variant, json.dumps(entry, indent=1), flush=True)


if __name__ == "__main__":
    main()
