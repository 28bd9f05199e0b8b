"""Posteriors: per marginal, samples of the truncated prior weighted by the learned ratio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from tmnre.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_SAMPLES = 400
"""effective samples below which quantiles in the tails are rough: a 5% quantile to a fifth of its probability"""
OPTIONAL = ("log_evidence", "independent")
"""what a marginal may have beside its arrays"""
MOST_ALONE = 5
"""failed checks that are warned of one by one; more are told as one"""
HALF = 0.5
"""of a prior, that data have to leave at most, and of a density's maximum, that has to be exceeded at a prior's end"""
MOST_SAMPLES = 10_000_000
"""of a marginal that is read from a file"""
WIDE = "the region is much wider than the posterior, and another round would narrow it"
JOINT = "|"
"""separates parameter names in the group names of posterior.h5"""


def weighted_quantile(values: np.ndarray, weights: np.ndarray, q: ArrayLike) -> np.ndarray:
    """Quantiles q of values (S,) with weights (S,), linear between the midpoints of the weighted steps."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return np.interp(np.asarray(q), (cumulative - 0.5 * weights[order]) / cumulative[-1], values[order])


@dataclass(frozen=True)
class MarginalPosterior:
    """Posterior of one marginal of d quantities.

    log_ratios (S,) is the learned log p(z|x)/p(z) at samples (S, d), relative to the region's prior.  Samples are draws
    of that prior, to be weighted by the ratio, unless log_weights (S,) says otherwise: those of a joint are draws of
    the posterior, with equal weights.

    log_evidence, of a joint: the learned ratio's integral over the region's prior; 0 for a perfect ratio.

    independent, of draws that depend on each other: how many independent ones they are worth.
    """

    names: tuple[str, ...]
    samples: np.ndarray
    log_ratios: np.ndarray
    log_weights: np.ndarray | None = None
    log_evidence: float | None = None
    independent: float | None = None

    @property
    def weights(self) -> np.ndarray:
        """Normalised importance weights (S,)."""
        log_w = self.log_ratios if self.log_weights is None else self.log_weights
        w = np.exp(log_w - log_w.max())
        return w / w.sum()

    @property
    def effective_sample_size(self) -> float:
        """How many independent unweighted samples these are worth: 1 / sum w^2, at most `independent`."""
        return float(min(1 / np.sum(self.weights**2), self.independent or np.inf))

    def sample(self, n: int, rng: np.random.Generator | int = 0) -> np.ndarray:
        """(n, d) posterior draws in random order, of the weighted ones by systematic resampling (Kitagawa 1996).

        None is repeated whose weight is below 1 / n: of a joint, whose draws weigh alike, only where they are fewer.
        """
        rng = np.random.default_rng(rng)
        levels = (rng.permutation(n) + rng.random()) / n
        cumulative = np.cumsum(self.weights)
        return self.samples[np.searchsorted(cumulative, levels * cumulative[-1], side="right")]

    def interval(self, mass: float = 0.9) -> np.ndarray:
        """Equal-tailed interval (d, 2) of the given posterior mass."""
        tails = [(1 - mass) / 2, (1 + mass) / 2]
        return np.array([weighted_quantile(column, self.weights, tails) for column in self.samples.T])

    def density(self, grid: np.ndarray, bins: int = 4096) -> np.ndarray:
        """Posterior density of a one-dimensional marginal at grid (G,), by a Gaussian kernel.

        The bandwidth is half of Silverman's for the effective sample size, small against the posterior's structure;
        what leaks over the ends of the samples is reflected back.
        """
        values, w = self._one_dimension("density"), self.weights
        low, high = values.min(), values.max()
        spread = min(self.sd, float(np.diff(weighted_quantile(values, w, [0.25, 0.75]))[0]) / 1.34) or self.sd
        width = max(0.45 * spread * self.effective_sample_size**-0.2, (high - low) / bins)
        edges = np.linspace(low, high, bins + 1)
        heights = np.histogram(values, edges, weights=w)[0] / (edges[1] - edges[0])
        smooth = gaussian_filter1d(heights, width / (edges[1] - edges[0]), mode="reflect", truncate=6)
        density = np.interp(grid, 0.5 * (edges[1:] + edges[:-1]), smooth)
        return np.where((grid >= low) & (grid <= high), density, 0.0)

    def hpd(self, mass: float = 0.9) -> list[tuple[float, float]]:
        """Highest-density region of a one-dimensional marginal: an interval (low, high) for every mode in it."""
        values = self._one_dimension("hpd")
        grid = np.linspace(values.min(), values.max(), 4096)
        density = self.density(grid)
        falling = np.sort(density)[::-1]
        level = falling[min(np.searchsorted(np.cumsum(falling), mass * falling.sum()), len(falling) - 1)]
        inside = np.concatenate([[False], density >= level, [False]])
        starts, ends = (np.flatnonzero(np.diff(inside.astype(int)) == step) for step in (1, -1))
        return [(float(grid[i]), float(grid[j - 1])) for i, j in zip(starts, ends, strict=True)]

    @property
    def sd(self) -> float:
        """Standard deviation of a one-dimensional marginal."""
        values, w = self._one_dimension("sd"), self.weights
        return float(np.sqrt(np.sum(w * (values - np.sum(w * values)) ** 2)))

    def _one_dimension(self, what: str) -> np.ndarray:
        if len(self.names) != 1:
            raise ValueError(f"{what} is for one-dimensional marginals, {self.names} has {len(self.names)}")
        return self.samples[:, 0]

    def to_arviz(self, draws: int = 4000, *, seed: int = 0) -> Any:
        """`tmnre.export.to_arviz` of this marginal."""
        from tmnre.export import to_arviz

        return to_arviz(self, draws, seed=seed)

    def to_getdist(self, labels: dict[str, str] | None = None) -> Any:
        """`tmnre.export.to_getdist` of this marginal."""
        from tmnre.export import to_getdist

        return to_getdist(self, labels)

    def summary(self) -> dict[str, Any]:
        """Median, mean, sd, equal-tailed intervals, highest-density region of a one-dimensional marginal; for JSON."""
        values, w = self._one_dimension("summary"), self.weights
        return {
            "median": float(weighted_quantile(values, w, 0.5)),
            "mean": float(np.sum(w * values)),
            "sd": self.sd,
            "interval_68": self.interval(0.68)[0].tolist(),
            "interval_90": self.interval(0.90)[0].tolist(),
            "hpd_90": self.hpd(0.90),
            "effective_samples": self.effective_sample_size,
        }


@dataclass(frozen=True)
class Result:
    """Marginal posteriors, and the record of the rounds that led to them.

    curves: training curve of each round, [{"step", "train", "validation", "member"}].
    extra: what else a procedure found, by name, in what JSON knows; written to summary.json.
    checked: what simulations held out judge, where it is not these marginals, whose warnings they are not then.
    notes: further warnings, of a procedure.
    further_simulations: runs of a simulator beside those of `rounds`, by a procedure that has other uses for them.
    shown: names in the triangle figure, in order, where not all.

    >>> result["a"].interval(0.9)              # doctest: +SKIP
    >>> result["a", "b"].sample(1000)          # doctest: +SKIP
    """

    marginals: Mapping[tuple[str, ...], MarginalPosterior]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    truth: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    curves: list[list[dict[str, float]]] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[str, ...] | None = None
    further_simulations: int = 0
    checked: str = ""
    notes: Sequence[str] = ()

    def __getitem__(self, names: str | tuple[str, ...]) -> MarginalPosterior:
        key = (names,) if isinstance(names, str) else tuple(names)
        if key not in self.marginals:
            raise KeyError(f"no marginal {key} was learned; there are {[' , '.join(k) for k in self.marginals]}")
        return self.marginals[key]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the one-dimensional marginals."""
        return tuple(key[0] for key in self.marginals if len(key) == 1)

    def summary(self) -> dict[str, dict[str, Any]]:
        """{name: summary} of all one-dimensional marginals."""
        return {name: self[name].summary() for name in self.names}

    @property
    def warnings(self) -> list[str]:
        """What a reader of the posteriors should know: marginals that rest on few samples or are not calibrated."""
        rough: dict[str, list[str]] = {}
        for key, m in self.marginals.items():
            # of 400 equal weights it comes out a little below 400
            if round(m.effective_sample_size) < FEW_SAMPLES:
                advice = WIDE if m.log_weights is None else "quantiles are rough, more draws would settle them"
                what = f"{m.effective_sample_size:.0f} effective samples, fewer than {FEW_SAMPLES}; {advice}"
                rough.setdefault(what, []).append(" , ".join(key))
        few = [f"{keys[0]}{f' and {len(keys) - 1} more' * (len(keys) > 1)}: {what}" for what, keys in rough.items()]
        last = self.rounds[-1] if self.rounds else {}
        p_of = {
            name: c["p_uniform"]
            for name, c in last.get("coverage", {}).items()
            if name in self.names and not c["passed"]
        }
        p_of |= {check["name"]: check["p_value"] for check in last.get("diagnostics", ()) if not check["passed"]}
        rest = len(p_of) - 1 if len(p_of) > MOST_ALONE else 0
        told = [min(p_of.items(), key=lambda found: found[1])] if rest else p_of.items()
        wrong = [
            f"{name}{f' and {rest} more' * bool(rest)}: simulations held out say that the posterior is not right "
            f"(p = {p:.0e}{' at worst' * bool(rest)}); more steps or more simulations in the last round should mend it"
            for name, p in told
        ]
        unlike = [
            f"{check['name']}: the observation is not like the model's data (p = {check['p_value']:.0e}), most of all "
            f"at distortion {check['numbers']['at']:.0f}; a posterior under this model means little"
            for check in last.get("goodness_of_fit", ())
            if not check["passed"]
        ]
        return few + (wrong if not self.checked else []) + unlike + self._cut_off() + list(self.notes)

    def _cut_off(self) -> list[str]:
        """Where data cut away half of a prior and more, and the posterior is nonetheless high at the prior's end."""
        cube = self.rounds[-1]["region"]["cube"] if self.rounds and "region" in self.rounds[-1] else {}
        found = []
        for name in self.names:
            low, high = cube.get(name, (0.0, 1.0))
            if high - low > HALF or (low > 0 and high < 1):
                continue
            values = self[name].samples[:, 0]
            side, end, place = ("lower", values.min(), 0) if low == 0 else ("upper", values.max(), -1)
            density = self[name].density(np.linspace(values.min(), values.max(), 512))
            if density[place] > HALF * density.max():
                found.append(
                    f"{name}: the posterior is cut off by the {side} end of its prior, {end:.4g}; a wider prior would "
                    f"change it, unless nothing lies beyond"
                )
        return found

    @property
    def simulations(self) -> int:
        """Number of runs of the costly simulator, all rounds and further ones together."""
        return sum(record["simulated"] for record in self.rounds) + self.further_simulations

    def plot(self, path: Path | str | None = None) -> Figure:
        """Triangle figure of the 1-d and 2-d marginals (matplotlib Figure), written to `path` if given."""
        from tmnre.figures import triangle

        figure = triangle(self, self.shown)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure

    def save(self, path: Path) -> None:
        """Write posterior.h5: a group per marginal with names, samples, log_ratios and normalised log_weights."""

        def write(temporary: Path) -> None:
            with h5py.File(temporary, "w") as file:
                for names, marginal in self.marginals.items():
                    group = file.create_group(JOINT.join(names))
                    group.attrs["names"] = list(names)
                    for name in OPTIONAL:
                        if (value := getattr(marginal, name)) is not None:
                            group.attrs[name] = value
                    group.create_dataset("samples", data=marginal.samples.astype("f8"))
                    group.create_dataset("log_ratios", data=marginal.log_ratios.astype("f4"))
                    log_weights = np.log(np.maximum(marginal.weights, 1e-300))
                    group.create_dataset("log_weights", data=log_weights.astype("f4"))

        write_whole(path, write)


def load_marginals(path: Path, names: Iterable[str] | None = None) -> dict[tuple[str, ...], MarginalPosterior]:
    """Marginals of a posterior.h5, all of them or those whose group names are given.

    Raises ValueError where shapes do not fit together or are larger than any run writes, before anything is read.
    """
    with h5py.File(path) as file:
        return dict(_marginal(file[name], path) for name in (file if names is None else names))


def _marginal(group: h5py.Group, path: Path) -> tuple[tuple[str, ...], MarginalPosterior]:
    names = tuple(str(name) for name in group.attrs["names"])
    arrays = {name: group[name] for name in ("samples", "log_ratios", "log_weights")}
    n = arrays["samples"].shape[0] if arrays["samples"].ndim else 0
    expected = {"samples": (n, len(names)), "log_ratios": (n,), "log_weights": (n,)}
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected or not 0 < n <= MOST_SAMPLES or any(array.dtype.kind != "f" for array in arrays.values()):
        raise ValueError(f"{path}: {group.name} of {names} has arrays {found}, which no run writes")
    samples, log_ratios, log_weights = (array[:].astype("f8") for array in arrays.values())
    return names, MarginalPosterior(names, samples, log_ratios, log_weights, *map(group.attrs.get, OPTIONAL))
