"""Binary black holes in the whitened strain of a detector network.

Stored per simulation: h+ and hx on the band's nodes at 1 Mpc, and their inner products.  Distance, sky position,
polarisation and arrival time multiply and shift them; with noise these are drawn anew at every use.  For approximants
with only the (2, 2) mode in the frame of the orbit the phase factors out as well, for aligned spins also the
inclination.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tmnre.prior import Prior
from tmnre.simulator import Arrays, Simulator, Tensors
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import ALIGNED, QUADRUPOLE, Waveform
from tmnre_gw.detectors import Network
from tmnre_gw.reduction import matched_filters, reduced_noise, reduction_of
from tmnre_gw.ripple import RippleWaveform

EXTRINSIC = ("luminosity_distance", "zenith", "azimuth", "ra", "dec", "psi", "time")
"""Parameters that never enter the waveform; `time` is relative to the network's reference (s)."""
BACKENDS = {"lal": Waveform, "ripple": RippleWaveform}
SPIN_SLOPE = 0.4
"""d ln(chirp mass) / d chi_eff along which posteriors of heavy binaries run (0.39 to 0.52 in GW150914's and those of
two injections). It decides how narrow a region becomes, not what is in it"""


class BinaryBlackHole(Simulator):
    """Simulator of {"strain": (N, detectors, P) complex64}: whitened strain in the basis of `Whitening`.

    Parameters
    ----------
    prior : free parameters, bilby's names and units, with `time` (s from network.reference_gps_s): arrival at the first
        detector if the sky is given by zenith and azimuth about the first baseline, else at the geocentre.
    fixed : values of all other parameters.
    network, band, whitening : where the signal is seen.
    front_end : how `fit_reduction` compresses: see `reduction`.
    constraints : bounds on derived quantities that belong to the prior, such as {"mass_2": (10, 80)}.
    backend : what makes the waveforms, one of `BACKENDS`.
    """

    derive_from = ("inner",)
    any_device = True

    def __init__(
        self,
        prior: Prior,
        fixed: Mapping[str, float],
        network: Network,
        band: Band,
        whitening: Whitening,
        *,
        approximant: str,
        reference_frequency_hz: float,
        front_end: str = "svd",
        components: int = 128,
        constraints: Mapping[str, tuple[float, float]] | None = None,
        backend: str = "lal",
    ) -> None:
        self.prior, self.fixed = prior, dict(fixed)
        self.network, self.band, self.whitening = network, band, whitening
        self.front_end, self.components = front_end, components
        self.aligned = approximant in ALIGNED
        self.quadrupole = approximant in QUADRUPOLE
        factors = (self.quadrupole and "phase", self.aligned and "theta_jn")
        extrinsic = (*EXTRINSIC, *filter(None, factors))
        self.redrawn = tuple(name for name in prior.names if name in extrinsic)
        self.waveform = BACKENDS[backend](approximant, band.nodes_hz, reference_frequency_hz)
        # where sky and polarisation are known, aligned spins leave it to the inclination alone
        turning = network.names[1:] if {*prior.names} & {"zenith", "azimuth", "ra", "dec", "psi"} else ()
        self._differences = tuple(f"phase_difference_{name}" for name in turning)
        self.constraints = {**(constraints or {}), **dict.fromkeys(self._differences, (-np.pi, np.pi))}
        self._in_frame = "zenith" in {*prior.names, *fixed}
        self._check_complete()
        self.derived = self._derived_names()
        self._nodes = torch.from_numpy(band.nodes_hz)
        self._triangle = torch.from_numpy(whitening.triangle * Waveform.UNIT).to(torch.complex64)
        quadrature = band.spline().T @ (whitening.factor * Waveform.UNIT).T ** 2
        self._quadrature = quadrature.T
        self._mean_frequency_hz = mean_frequency_hz(band, whitening)
        self.reduction: Tensors = {}

    def _check_complete(self) -> None:
        sky = ("zenith", "azimuth") if self._in_frame else ("ra", "dec")
        spins = ("chi_1", "chi_2") if self.aligned else ("a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl")
        needed = {"chirp_mass", "mass_ratio", *spins, "theta_jn", "phase", "luminosity_distance", *sky, "psi", "time"}
        have = {*self.prior.names, *self.fixed}
        if needed != have:
            raise ValueError(
                f"parameters of {'aligned' if self.aligned else 'precessing'} binaries: missing "
                f"{sorted(needed - have)}, not understood {sorted(have - needed)}; give each a prior or a fixed value"
            )

    def _derived_names(self) -> tuple[str, ...]:
        names = ["mass_1", "mass_2", "chi_eff", "effective_chirp_mass"]
        names += [f"snr_{name}" for name in self.network.names]
        names += self._differences
        if self._in_frame:
            names += ["ra", "dec", "geocent_time"]
        return tuple(names)

    # the costly part

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> Arrays:
        """{"h": (N, 1 or 2, P) complex64, "inner": (N, detectors, 1 or 4) float32}, at 1 Mpc.

        inner: <h+, h+>, and for precessing binaries <hx, hx>, real and imaginary part of <h+, hx>.
        """
        del rng  # waveforms have no randomness of their own
        parameters = {name: np.full(len(theta), value) for name, value in self.fixed.items()}
        parameters |= dict(zip(self.prior.names, theta.T, strict=True))
        if self.quadrupole:
            parameters["phase"] = np.zeros(len(theta))
        if self.aligned:
            parameters["theta_jn"] = np.zeros(len(theta))
        h = self.waveform.many(parameters)[:, : 1 if self.aligned else 2]
        products = [np.abs(h[:, i]) ** 2 for i in range(h.shape[1])]
        if not self.aligned:
            mixed = h[:, 0] * h[:, 1].conj()
            products += [mixed.real, mixed.imag]
        # products vary more slowly than the signals, so the spline's own quadrature integrates them on the nodes
        inner = np.stack([np.einsum("np,dp->nd", p, self._quadrature) for p in products], axis=2)
        return {"h": h.astype(np.complex64), "inner": inner.astype(np.float32)}

    # the cheap part

    def _columns(self, theta: Tensor) -> dict[str, Tensor]:
        names = self.prior.names
        values = {name: theta.new_full((len(theta),), value) for name, value in self.fixed.items()}
        return {**values, **{name: theta[:, i] for i, name in enumerate(names)}}

    def _arrival(self, p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Direction (N, 3) to the source and arrival times (N, detectors) relative to the reference."""
        if self._in_frame:
            direction = self.network.direction_in_frame(p["zenith"], p["azimuth"])
            delays = self.network.delays(direction)
            return direction, p["time"][:, None] + delays - delays[:, :1]
        direction = self.network.direction(p["ra"], p["dec"], p["time"])
        return direction, p["time"][:, None] + self.network.delays(direction)

    def _amplitudes(self, p: dict[str, Tensor], direction: Tensor) -> Tensor:
        """Factors (N, detectors, 1 or 2) of the stored polarisations, at the source's distance, but for the phase."""
        response = self.network.response(direction, p["psi"])
        if self.aligned:
            cos = torch.cos(p["theta_jn"])[:, None]
            # the stored waveform is face-on, where hx = -i h+
            response = (response[..., 0] * (1 + cos**2) / 2 - 1j * response[..., 1] * cos)[..., None]
        return response / p["luminosity_distance"][:, None, None]

    def signal_on_nodes(self, stored: Tensors, theta: Tensor) -> Tensor:
        """Strain of each detector on the nodes, (N, detectors, P) complex64 in units of 1e-21 per Hz."""
        p = self._columns(theta)
        direction, arrival = self._arrival(p)
        amplitudes = self._amplitudes(p, direction).to(torch.complex64)
        cycles = (arrival[..., None].float() * self._nodes.float()).mul_(-2 * torch.pi)
        if self.quadrupole:
            cycles += 2 * p["phase"].float()[:, None, None]
        shift = torch.complex(torch.cos(cycles), torch.sin(cycles))
        h = stored["h"]
        mixed = amplitudes[..., :1] * h[:, None, 0]
        if not self.aligned:
            mixed = mixed + amplitudes[..., 1:] * h[:, None, 1]
        return mixed.mul_(shift)

    def signal(self, stored: Tensors, theta: Tensor) -> Tensor:
        """Noise-free whitened signal (N, detectors, P or components), in the form `observe` returns."""
        matrix = self.reduction.get("matrix", self._triangle)
        return torch.einsum("ndp,dbp->ndb", self.signal_on_nodes(stored, theta), matrix)

    def observe(self, stored: Tensors, theta: Tensor, generator: torch.Generator) -> Tensors:
        """Signal and noise: {"strain": (N, detectors, P or components)}, and "filtered" where the front end has
        filters."""
        signal = self.signal(stored, theta)
        return self._filtered(signal + reduced_noise(signal, self.reduction, generator))

    def _filtered(self, strain: Tensor) -> Tensors:
        if "filters" not in self.reduction:
            return {"strain": strain}
        return {"strain": strain, "filtered": matched_filters(strain, self.reduction["filters"])}

    def derive(self, theta: Tensor, stored: Tensors | None = None) -> Tensors:
        """Component masses (Msun), effective spin, and the chirp mass (Msun) of a binary without spin that merges
        alike; with `stored` also sky, time, optimal signal-to-noise ratios and differences of phase."""
        p = self._columns(theta)
        q = p["mass_ratio"]
        mass_1 = p["chirp_mass"] * (1 + q) ** 0.2 / q**0.6
        if self.aligned:
            chi_1, chi_2 = p["chi_1"], p["chi_2"]
        else:
            chi_1, chi_2 = p["a_1"] * torch.cos(p["tilt_1"]), p["a_2"] * torch.cos(p["tilt_2"])
        chi_eff = (chi_1 + q * chi_2) / (1 + q)
        effective = p["chirp_mass"] * torch.exp(-SPIN_SLOPE * chi_eff)
        derived = {"mass_1": mass_1, "mass_2": mass_1 * q, "chi_eff": chi_eff, "effective_chirp_mass": effective}
        if stored is None:
            return derived
        direction, arrival = self._arrival(p)
        amplitudes, inner = self._amplitudes(p, direction), stored["inner"].double()
        for name, snr in zip(self.network.names, self._snr(amplitudes, inner).T, strict=True):
            derived[f"snr_{name}"] = snr
        if self._differences:
            differences = self._phase_differences(amplitudes, arrival, inner)
            derived |= dict(zip(self._differences, differences.T, strict=True))
        if self._in_frame:
            derived["geocent_time"] = p["time"] - self.network.delays(direction)[:, 0]
            derived["ra"], derived["dec"] = self.network.sky(direction, derived["geocent_time"])
        return derived

    def _snr(self, w: Tensor, inner: Tensor) -> Tensor:
        """Optimal signal-to-noise ratio (N, detectors) of amplitudes w, exact in the inner products at 1 Mpc."""
        if self.aligned:
            return w[..., 0].abs() * inner[..., 0].sqrt()
        square = w[..., 0] ** 2 * inner[..., 0] + w[..., 1] ** 2 * inner[..., 1] + 2 * w.prod(-1) * inner[..., 2]
        return square.clamp_min(0).sqrt()

    def _phase_differences(self, w: Tensor, arrival: Tensor, inner: Tensor) -> Tensor:
        """Phase of the signal at each detector but the first, less that at the first (N, detectors - 1), in rad.

        That of their inner product, with what the delay adds at the detectors' mean frequency: there the data measure
        it best, to one over the signal-to-noise ratio, however little they say of what it follows from.
        """
        first, other = w[:, :1], w[:, 1:]
        if self.aligned:
            product = other[..., 0] * first[..., 0].conj()
        else:
            plus, cross, real, imaginary = (0.5 * (inner[:, :1] + inner[:, 1:])).unbind(-1)
            mixed = other[..., 0] * first[..., 1], other[..., 1] * first[..., 0]
            equal = other[..., 0] * first[..., 0] * plus + other[..., 1] * first[..., 1] * cross
            product = torch.complex(equal + (mixed[0] + mixed[1]) * real, (mixed[0] - mixed[1]) * imaginary)
        delay = arrival[:, 1:] - arrival[:, :1]
        difference = product.angle() - 2 * torch.pi * self._mean_frequency_hz * delay
        return torch.remainder(difference + torch.pi, 2 * torch.pi) - torch.pi

    # the smaller form of the data

    def fit_reduction(self, stored: Tensors, theta: Tensor) -> Tensors:
        """Front end of the current region, from noise-free signals."""
        if self.front_end == "none":
            return {}
        signals = torch.einsum("ndp,dbp->ndb", self.signal_on_nodes(stored, theta), self._triangle)
        return reduction_of(self, signals)

    def reduced(self, reduction: Tensors) -> BinaryBlackHole:
        """This simulator with `observe` in the front end's form."""
        smaller = copy.copy(self)
        smaller.reduction = reduction
        return smaller

    def reduce(self, x: Tensors) -> Tensors:
        """Whitened strain (N, detectors, P) through the front end."""
        if not self.reduction:
            return x
        return self._filtered(torch.einsum("ndp,dbp->ndb", x["strain"], self.reduction["project"]))


def mean_frequency_hz(band: Band, whitening: Whitening) -> float:
    """Mean frequency (Hz) of an inspiral's squared amplitude, f^(-7/3), over the noise of all detectors."""
    f = band.frequencies_hz
    power = f ** (-7 / 3) * (whitening.factor**2).sum(0)
    return float((power * f).sum() / power.sum())
