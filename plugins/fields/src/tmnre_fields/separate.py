"""Some of several components: their likelihood, averaged over the prior of the others, and the others given them.

With Q, b of all components together (`tmnre_fields.information`), z the ones asked for and o the others,

    p(o | x, z)     information Q_oo, b_o - Q_oz z beside the prior of o: a Gaussian like any other
    ln p(x | z)  =  b_z . z - <z, Q_zz z> / 2 + <b', mu'> / 2 + const,    b' = b_o - Q_oz z,  (P_o^-1 + Q_oo) mu' = b'

so that one network, from one set of simulations, gives the likelihood of every component with the others averaged
over, and their joint by either of them and what is left given it.  Draws of p(z | x) are those of all components with
the others dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior


@dataclass(frozen=True)
class Averaged:
    """What one observation says of the components `of`, whatever the others are.

    information : of all components, a batch of one.  power : P (1, C, *mode_shape) of all.
    """

    information: Information
    power: Tensor
    of: Sequence[int]

    def __post_init__(self) -> None:
        every = range(self.information.response.components)
        if not set(self.of) < set(every) or len(set(self.of)) != len(self.of) or not self.of:
            raise ValueError(f"of must name some of the components {list(every)}, not all of them, got {list(self.of)}")

    @property
    def others(self) -> list[int]:
        """The components that are averaged over."""
        return [c for c in range(self.information.response.components) if c not in self.of]

    def rest(self, z: Tensor) -> Posterior:
        """Posteriors of the others given modes z (N, len(of), *mode_shape)."""
        alone = _part(self.information, self.of)
        theirs = _part(self.information, self.others)
        pull = self.information.pull - self.information.of_pixels(alone.response(z))
        given = replace(theirs.each(lambda part: part.expand(len(z), *part.shape[1:])), pull=pull)
        return Posterior(given, self.power[:, self.others])

    def log_likelihood(self, z: Tensor, *, tolerance: float = 1e-6) -> Tensor:
        """ln p(x | z) - ln p(x | 0) in nat (N,) of modes z (N, len(of), *mode_shape)."""
        alone = _part(self.information, self.of)
        inner, az = alone.response.sky.inner, alone.response(z)
        own = (self.information.pull * az).flatten(1).sum(1) - 0.5 * alone.product(z, z, az, az)
        both = self.rest(torch.cat([z, torch.zeros_like(z[:1])]))
        average = 0.5 * inner(both.information.b(), both.mean(tolerance=tolerance))
        return own + average[:-1] - average[-1]

    def log_evidence(self, white: Tensor, *, tolerance: float = 1e-6) -> tuple[float, float]:
        """ln p(x | 0) - ln p(x) in nat, and its standard error, from white noise (N, C, *mode_shape)."""
        inner = self.information.response.sky.inner
        whole = Posterior(self.information, self.power)
        theirs = self.rest(torch.zeros_like(white[:1, self.of]))
        average = 0.5 * inner(theirs.information.b(), theirs.mean(tolerance=tolerance))
        fixed = average - 0.5 * inner(self.information.b(), whole.mean(tolerance=tolerance))
        log_dets = []
        for posterior, noise in ((whole, white), (theirs, white[:, self.others])):
            solution = posterior.solve_white(noise, tolerance=tolerance, iterations=300)
            log_dets.append(posterior.log_det(noise, solution))
        each = 0.5 * (log_dets[0] - log_dets[1])
        return float(fixed + each.mean()), float(each.std() / len(white) ** 0.5)


def _part(information: Information, which: Sequence[int]) -> Information:
    """Of some components alone, the others being zero."""
    response = replace(information.response, mixing=information.response.mixing[:, list(which)])
    mode = None if information.mode is None else information.mode[:, list(which)]
    return replace(information, response=response, mode=mode)
