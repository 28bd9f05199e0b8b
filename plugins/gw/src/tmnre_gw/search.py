"""Where in the prior a signal is, by matched filters, for rounds to begin there.

Whatever its distance, direction, polarisation and phase, a source of a given waveform has

    2 ln L <= sum_d max_t |P_d(t) d|^2

P_d(t) the projection on the span of its polarisations in detector d, arriving at t, and these times no further apart
than light takes.  A few thousand waveforms tell which masses and times reach the best of this bound but for LEAST, and
how loud the signal may be; where few do, more are drawn where these are.  The filters cost as much as the waveforms.

A light binary is in the band for many seconds, and data know its chirp mass to a thousandth of the prior: of the whole
prior few of a network's simulations resemble them, and a few hundred steps learn nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tmnre import Box, Place
from tmnre.files import write_json
from tmnre.inside import draw
from tmnre.simulator import Tensors
from tmnre_gw.detectors import EARTH_RADIUS_S
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.simulator import BinaryBlackHole

MASS, EFFECTIVE = "chirp_mass", "effective_chirp_mass"
"""what is bounded by the waveforms that ring, the first to draw more of them"""
WAVEFORMS, TIMES, CHOSEN_OF = 2000, 6, 20
"""drawn at once, at most how often, and of how many times as many"""
LEAST = 30.0
"""how far 2 ln L may be below the best: of a Gaussian in eight dimensions 2e-4 lies further off"""
FEWEST = 32
"""waveforms that bounds are about, at least"""
BEYOND = 0.25
"""how far bounds go beyond these on either side, in their range"""
SHRINKS = 0.8
"""of the interval of chirp masses that it is drawn from again, or the search is over"""
HALF = 0.5
"""share of the prior that is left where the signal was not found"""
ROWS_AT_ONCE, STEPS = 256, 4
"""times a cycle at the highest frequency"""


def found_nothing(log_volume: float) -> bool:
    """Whether rounds, or a search, have cut next to nothing of the prior."""
    return log_volume > np.log(HALF)


@dataclass(frozen=True)
class Heard:
    """Twice the bound of ln L (N, T) of waveforms that arrive at the first detector at times_s (T,), and the largest
    signal-to-noise ratio (N, detectors) in each."""

    times_s: np.ndarray
    twice: np.ndarray
    snr: np.ndarray


def locate(likelihood: Likelihood, seed: int, place: Place, pool: Executor | None, folder: Path) -> None:
    """Write region.json to folder: the region outside of which no waveform explains the data nearly as well as the
    best, and how many waveforms that took."""
    simulator, rng = likelihood.simulator, np.random.default_rng(seed)
    prior, likelihood.quadrature = simulator.prior, True
    region, made, best, again = Box.full(prior, simulator.constraints), 0, 0.0, True
    with place.progress(total=TIMES * WAVEFORMS, desc="matched filters, at most", unit="waveform") as bar:
        while again:
            u = _evenly(simulator, region, rng)
            heard = listen(likelihood, likelihood.waveforms(prior.from_cube(u), pool), bar.update)
            made, best = made + len(u), max(best, float(heard.twice.max()))
            region, again = _closer(simulator, region, u, heard, best, last=made >= TIMES * WAVEFORMS)
    write_json(folder / "region.json", {"region": region.to_dict(), "waveforms": made})
    bounds = (
        (name, prior[name].quantile(np.array(region.cube[name]))) for name in (MASS, "time") if name in prior.names
    )
    where = "".join(f", {name} {low:.4g} to {high:.4g}" for name, (low, high) in bounds)
    place.say(f"search: signal-to-noise ratio {best**0.5:.1f} at most{where}, by {made:,} waveforms")


def _evenly(simulator: BinaryBlackHole, region: Box, rng: np.random.Generator) -> np.ndarray:
    """u (WAVEFORMS, D) of a region, by chirp mass as many as differ: a phase goes as its power -5/3."""
    u = draw(simulator, region, CHOSEN_OF * WAVEFORMS, rng)
    share = np.ones(len(u))
    if MASS in simulator.prior.names:
        column = simulator.prior.columns((MASS,))[0]
        share = simulator.prior.from_cube(u)[:, column] ** (-8 / 3)
    return u[rng.choice(len(u), WAVEFORMS, replace=False, p=share / share.sum())]


def _closer(
    simulator: BinaryBlackHole, region: Box, u: np.ndarray, heard: Heard, best: float, *, last: bool
) -> tuple[Box, bool]:
    """The region about the waveforms u (N, D) that ring nearly as loud as the best, and whether to draw from it."""
    prior = simulator.prior
    each = heard.twice.max(1)
    rows = np.argsort(-each)[: max(FEWEST, int((each > best - LEAST).sum()))]
    level = min(each[rows[-1]], best - LEAST)
    cube: dict[str, tuple[float, float]] = {}
    derived: dict[str, tuple[float, float]] = {}
    if MASS in prior.names:
        cube[MASS] = _about(u[rows, prior.columns((MASS,))[0]])
        if not last and np.ptp(cube[MASS]) < SHRINKS * np.ptp(region.cube[MASS]):
            return region.tightened(cube, derived), True
        effective = simulator.derive(torch.from_numpy(prior.from_cube(u[rows])))[EFFECTIVE]
        derived[EFFECTIVE] = _about(effective.numpy())
    if "time" in prior.names:
        early, late = _about(heard.times_s[(heard.twice[rows] >= level).any(0)])
        beside = 0.0 if simulator._in_frame else EARTH_RADIUS_S  # of the geocentre
        low, high = prior["time"].cdf(np.array([early - beside, late + beside]))
        cube["time"] = float(low), float(high)
    root = LEAST**0.5  # an amplitude that is off by so much costs LEAST
    for name, snr in zip(simulator.network.names, heard.snr[rows].T, strict=True):
        derived[f"snr_{name}"] = float(max(0, snr.min() - root)), float(snr.max() + root)
    return region.tightened(cube, derived), False


def _about(values: np.ndarray) -> tuple[float, float]:
    """An interval about values, and BEYOND."""
    beyond = BEYOND * np.ptp(values)
    return float(values.min() - beyond), float(values.max() + beyond)


def listen(likelihood: Likelihood, stored: Tensors, tell: Callable[[int], object] = lambda n: None) -> Heard:
    """What waveforms make of the data; those that lal failed at are heard nowhere."""
    simulator = likelihood.simulator
    margin, f = simulator.band.time_margin_s, simulator._nodes
    times = torch.arange(-margin, margin, 1 / (STEPS * float(f[-1])), dtype=torch.float64)
    turn = torch.exp(2j * torch.pi * f[:, None] * times).to(torch.complex64)
    vertices = simulator.network.vertices
    apart = torch.linalg.vector_norm(vertices - vertices[0], dim=1)
    earliest, latest = _first_arrivals(simulator)
    step = times[1] - times[0]
    may_be = ((times > earliest - apart[:, None] - step) & (times < latest + apart[:, None] + step)).float()
    found: list[tuple[Tensor, Tensor]] = []
    for rows in torch.arange(len(stored["h"])).split(ROWS_AT_ONCE):
        square = _projected(likelihood._filtered, {name: array[rows] for name, array in stored.items()}, turn)
        square = square * may_be
        near = [int(torch.ceil(light / step)) for light in apart]
        together = [F.max_pool1d(x, 2 * k + 1, 1, k) for x, k in zip(square.unbind(1), near, strict=True)]
        found.append((torch.stack(together).sum(0), square.amax(2).sqrt()))
        tell(len(rows))
    twice, snr = (torch.cat([part[i] for part in found]).numpy() for i in range(2))
    return Heard(times.numpy(), twice, snr)


def _first_arrivals(simulator: BinaryBlackHole) -> tuple[float, float]:
    """When a signal of the prior may arrive at the first detector (s)."""
    fixed = simulator.fixed.get("time", 0.0)
    low, high = simulator.prior["time"].support if "time" in simulator.prior.names else (fixed, fixed)
    return (low, high) if simulator._in_frame else (low - EARTH_RADIUS_S, high + EARTH_RADIUS_S)


def _projected(filtered: Tensor, stored: Mapping[str, Tensor], turn: Tensor) -> Tensor:
    """|P_d(t) d|^2 (N, detectors, T), of data (detectors, P) with the noise divided out and shifts turn (P, T)."""
    h, inner, parts = stored["h"], stored["inner"].float(), []
    for d, data in enumerate(filtered):
        ring = torch.einsum("nmp,pt->mnt", h.conj() * data, turn)
        plus = inner[:, d, 0, None]
        square = ring[0].abs().square() / plus
        if len(ring) == 2:  # and what of hx is not along h+, unless next to nothing is
            cross, mixed = inner[:, d, 1, None], torch.complex(inner[:, d, 2, None], inner[:, d, 3, None])
            left = cross - mixed.abs().square() / plus
            across = ring[1] - mixed / plus * ring[0]
            square = square + across.abs().square() / torch.maximum(left, 0.01 * cross)
        parts.append(square.nan_to_num(0.0))
    return torch.stack(parts, dim=1)
