"""Simulators of fields and of data about them, batched in torch.

    z_c ~ N(0, P_c(theta))                          components, in modes (`tmnre_fields.sky`)
    s_nu = window( beam_nu * sum_c mixing_{nu c} f_c(z_c) )     f pixel by pixel (`tmnre_fields.pointwise`)
    x_nu = mask (s_nu + noise)   or   mask Poisson(exposure s_nu)

Noise is Gaussian, its standard deviation one number or a map.  The spectrum's parameters theta are fixed, or free with
a prior; in both cases p(x | z) does not know of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre import Prior
from tmnre_fields.pointwise import Pointwise, identity
from tmnre_fields.response import Response

Power = Callable[[Tensor], Tensor]
"""theta (N, D) float64 -> (N, *mode_shape); D may be 0"""


@dataclass(frozen=True)
class Component:
    """One random field among those that make up the data."""

    name: str
    power: Power | Tensor
    """P (*mode_shape), or a function of the spectrum's parameters"""
    function: Pointwise = identity


@dataclass(frozen=True)
class FieldModel:
    """Everything about z and x; batches are the first axis.

    Random numbers are drawn where the generator is; this model's tensors must be there (`tmnre.device.moved`).

    Attributes
    ----------
    response : mixing, beam, window.
    components : as many as `response` mixes.
    noise : standard deviation of the Gaussian noise in data units, a number or (V, *grid); 0 with Poisson counts.
    exposure : counts per unit of signal, a number or (V, *grid): data are Poisson counts; None: they are not.
    mask : (V, *grid), True where there are data; None: everywhere.
    nuisance : (n, generator) -> (n, V, *grid), what else there is in the data and is not asked for: drawn anew with the
        noise, so that what is learned is marginal over it.  `log_likelihood` does not know of it.
    prior : of the spectrum's parameters, or of the noise's level; None: `power` are tensors or functions of nothing.
    noise_factor : which of the prior's parameters multiplies the noise, if one does; `log_likelihood` takes it for 1.
    """

    response: Response
    components: Sequence[Component]
    noise: float | Tensor = 0.0
    exposure: float | Tensor | None = None
    mask: Tensor | None = None
    nuisance: Callable[[int, torch.Generator], Tensor] | None = None
    prior: Prior | None = None
    noise_factor: str | None = None

    def __post_init__(self) -> None:
        if len(self.components) != self.response.components:
            raise ValueError(
                f"the response mixes {self.response.components} components, got {len(self.components)}: "
                f"{[c.name for c in self.components]}"
            )
        shape = (self.response.channels, *self.response.grid)
        for name in ("noise", "exposure", "mask"):
            value = getattr(self, name)
            if isinstance(value, Tensor) and value.ndim and tuple(value.shape) != shape:
                raise ValueError(f"{name} must be a number or have shape {shape}, got {tuple(value.shape)}")
        if self.exposure is None and not bool(torch.as_tensor(self.noise).min() > 0):
            raise ValueError("noise must be positive everywhere where data are not Poisson counts")
        if self.noise_factor is not None and (
            self.exposure is not None or self.prior is None or self.noise_factor not in self.prior.names
        ):
            raise ValueError(
                f"noise_factor must be a parameter of the prior, with Gaussian noise, got {self.noise_factor!r}"
            )
        if self.exposure is not None:
            exposure = torch.as_tensor(self.exposure).expand_as(self.observed)
            if not bool((exposure[self.observed > 0] > 0).all()):
                raise ValueError("exposure must be positive wherever there are data; where it is 0, mask")

    def checked(self, x: Tensor) -> Tensor:
        """An observation x (V, *grid), made zero outside the mask.

        Raises ValueError for another shape, for what is not finite and, of counts, for negative and broken ones.
        """
        shape = tuple(self.observed.shape)
        if tuple(x.shape) != shape:
            raise ValueError(f"data must have shape {shape}, (channels, *grid), got {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"data must be finite, {int((~torch.isfinite(x)).sum())} values are not; mask them")
        if self.exposure is not None and bool((x < 0).any()):
            raise ValueError(f"counts must not be negative, got {float(x.min()):g}; are these counts or contrasts?")
        if self.exposure is not None and bool((x != x.round()).any()):
            raise ValueError("counts must be whole numbers: weighted or smoothed ones are not Poisson distributed")
        return x * self.observed

    def power(self, theta: Tensor | None = None) -> Tensor:
        """P (N, C, *mode_shape) float32 of every component for theta (N, D); (1, C, *mode_shape) without any."""
        n = 1 if theta is None else len(theta)
        parts = []
        for component in self.components:
            p = component.power if isinstance(component.power, Tensor) else component.power(theta)
            parts.append(p.expand(n, *self.response.sky.mode_shape))
        return torch.stack(parts, 1).float()

    def parameters(self, n: int, rng: np.random.Generator) -> Tensor | None:
        """Draws of the spectrum's parameters (n, D) float64 from their prior; None where they are fixed."""
        return None if self.prior is None else torch.from_numpy(self.prior.sample(n, rng))

    def draw(self, n: int, generator: torch.Generator, theta: Tensor | None = None) -> Tensor:
        """Modes z (n, C, *mode_shape) from the prior, with spectra of theta (n, D)."""
        power = self.power(theta).to(generator.device)
        return power.sqrt() * self.response.sky.white((n, len(self.components)), generator)

    def signal(self, z: Tensor) -> Tensor:
        """Data without noise and mask (N, V, *grid) of modes z."""
        if self.linear:
            return self.response(z)
        fields = self.response.sky.fields(z)
        parts = [component.function(fields[:, i]) for i, component in enumerate(self.components)]
        return self.response.blur(torch.stack(parts, 1))

    @property
    def linear(self) -> bool:
        """Whether fields enter the signal as they are."""
        return all(component.function is identity for component in self.components)

    @property
    def fixed(self) -> bool:
        """Whether spectra are what they are, whatever the prior's parameters."""
        return all(isinstance(component.power, Tensor) for component in self.components)

    def observe(self, signal: Tensor, generator: torch.Generator, theta: Tensor | None = None) -> Tensor:
        """Data x (N, V, *grid): noise or counts drawn anew, with the prior's parameters theta (N, D); zero where there
        are none."""
        if self.nuisance is not None:
            signal = signal + self.nuisance(len(signal), generator)
        if self.exposure is None:
            noise = torch.randn(signal.shape, generator=generator, dtype=signal.dtype, device=signal.device)
            x = signal + self._sd * self._level(noise, theta) * noise
        else:
            # a beam's ringing can make a positive signal negative by rounding
            x = torch.poisson((signal * torch.as_tensor(self.exposure)).clamp_min(0), generator=generator)
        return x if self.mask is None else x * self.mask

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) (N,), up to a constant: what reference samplers use and the estimator never sees."""
        signal = self.signal(z)
        if self.exposure is None:
            terms = -0.5 * ((x - signal) / self._sd).square()
        else:
            rate = (signal * torch.as_tensor(self.exposure)).clamp_min(1e-12)
            terms = x * rate.log() - rate
        return (terms if self.mask is None else terms * self.mask).flatten(1).sum(1)

    def _level(self, noise: Tensor, theta: Tensor | None) -> Tensor | float:
        if self.noise_factor is None or theta is None:
            return 1.0
        return theta[:, self.prior.names.index(self.noise_factor)].to(noise).view(-1, *(1,) * (noise.ndim - 1))

    @property
    def _sd(self) -> Tensor:
        return torch.as_tensor(self.noise, dtype=torch.float32)

    @property
    def observed(self) -> Tensor:
        """Where there are data, 0 or 1 (V, *grid) float32."""
        shape = (self.response.channels, *self.response.grid)
        return torch.ones(shape) if self.mask is None else self.mask.float().expand(shape)
