"""Where in the prior a signal is, by matched filters made of simulations that are there: for rounds that have lost it.

A light binary is in the band for many seconds, and data know its chirp mass to a thousandth of the prior: few of a
network's simulations resemble them, and a few hundred steps learn nothing.  The filters cost seconds.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tmnre import Box, Place
from tmnre.files import write_json
from tmnre.inside import in_region
from tmnre.rounds import Rounds
from tmnre.simulator import Tensors
from tmnre_gw.likelihood import Likelihood

SEARCHED = "chirp_mass"
FEWEST, OF_BEST = 32, 0.9
"""waveforms that the box is about: so many at least, and all whose signal-to-noise ratio is this share of the best's"""
BEYOND = 0.25
"""how far the box reaches beyond these on either side, in their range"""
HALF = 0.5
"""share of the prior that rounds leave when they have not found the signal"""
ROWS_AT_ONCE, STEPS = 512, 4
"""times a cycle at the highest frequency"""


def found_nothing(log_volume: float) -> bool:
    """Whether rounds, or a search, have cut next to nothing of the prior."""
    return log_volume > np.log(HALF)


def locate(rounds: Rounds, strain: np.ndarray, place: Place, folder: Path) -> None:
    """Write region.json to folder: a box about the chirp masses of the rounds' simulations of the whole prior that ring
    the loudest in data strain (detectors, P)."""
    simulator = rounds.simulator
    whole = Box.full(simulator.prior, simulator.constraints)
    selection = rounds.store.select(rounds.store.shards(sys.maxsize), partial(in_region, simulator, whole), sys.maxsize)
    if not len(selection.u):
        raise ValueError("the search looks at the rounds' simulations, which the disk budget discarded")
    rows, likelihood, found = rounds._rows(selection), Likelihood(simulator, strain), []
    with place.progress(total=len(selection.u), desc="matched filters", unit="waveform") as bar:
        for which in torch.arange(len(selection.u)).split(ROWS_AT_ONCE):
            found.append(loudest(likelihood, rows.take(which)))
            bar.update(len(which))
    snr = np.concatenate(found)
    best = np.argsort(snr)[::-1][: max(FEWEST, int((snr > OF_BEST * snr.max()).sum()))]
    u = selection.u[best, simulator.prior.columns((SEARCHED,))[0]]
    beyond = BEYOND * (u.max() - u.min())
    bounds = (float(max(0.0, u.min() - beyond)), float(min(1.0, u.max() + beyond)))
    write_json(folder / "region.json", Box({**whole.cube, SEARCHED: bounds}, whole.derived).to_dict())
    low, high = simulator.prior[SEARCHED].quantile(np.array(bounds))
    place.say(
        f"search: the rounds did not find the signal; of {len(snr):,} waveforms the {len(best)} that ring the loudest, "
        f"up to a signal-to-noise ratio of {snr.max():.1f}, point to a {SEARCHED} of {low:.4g} to {high:.4g}"
    )


def loudest(likelihood: Likelihood, stored: Tensors) -> np.ndarray:
    """Signal-to-noise ratio (N,) of waveforms as matched filters, h+ alone: at the time, phase and amplitude that fit
    best in each detector by itself, in quadrature."""
    simulator = likelihood.simulator
    margin, f = simulator.band.time_margin_s, simulator._nodes
    times = torch.arange(-margin, margin, 1 / (STEPS * float(f[-1])), dtype=torch.float64)
    turn = torch.exp(2j * torch.pi * f[:, None] * times).to(torch.complex64)
    square: Tensor = torch.zeros(len(stored["h"]))
    for d, filtered in enumerate(likelihood._filtered):
        ring = (stored["h"][:, 0].conj() * filtered) @ turn
        square = square + ring.abs().square().amax(1) / stored["inner"][:, d, 0]
    return square.sqrt().numpy()
