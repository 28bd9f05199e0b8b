"""The negative log-likelihood of fields under a learned Gaussian, relative to the prior: the estimator's loss.

    -log r(x, z) = <z, Q z> / 2 - <b, z> + <b, mu> / 2 - log det(P Q~) / 2

with Q~ = P^-1 + Q, Q~ mu = b, in nat.  Under a tempered proposal p~(z) ~ p(z) exp(g b_t . z - g z^T Q_t z / 2) the
data's posterior has information Q + g Q_t, b + g b_t; that is what meets the simulations, and Q, b are reported.

Two solutions by conjugate gradients a sample give all of it: mu, and K^-1 w for white w.  The gradient needs no more,

    d(-log r) = <z, dQ z> / 2 - <mu, dQ mu> / 2 - <db, z - mu> - tr(Q~^-1 dQ) / 2,
    tr(Q~^-1 dQ) = E_w <R K^-1 w, dQ R w>,

where one w a sample adds less scatter than z itself brings: the spread of z z^T about its mean.  The log determinant
comes from the coefficients of the second solution, unbiased as well, so that losses can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior


def negative_log_ratio(
    information: Information,
    z: Tensor,
    power: Tensor,
    white: Tensor,
    *,
    proposal: Information | None = None,
    tolerance: float = 1e-4,
    iterations: int = 300,
) -> Tensor:
    """-log r (N,) of modes z (N, C, *mode_shape) in nat, with the gradient of its expectation.

    white (N, C, *mode_shape) is noise of unit variance per mode; proposal: g times the information of a tempered
    proposal that z was drawn from, whose own normalisation, which no parameter enters, is left out.

    Where precisions are uneven a solver that stops at a tolerance of 1e-3 leaves the gradient biased, along the
    logarithm of all precisions by ten nat and more for a thousand modes: fields then come out too certain.  At 1e-4 a
    fraction of a nat is left for precisions as they are learned.
    """
    response, n = information.response, len(z)
    whole = information if proposal is None else information + proposal
    with torch.no_grad():
        posterior = Posterior(whole.detach(), power)
        right = torch.stack([posterior.whitened(whole.b()), white], 1)
        solution = posterior.solve_white(right.flatten(0, 1), tolerance=tolerance, iterations=iterations)
        mean, inverse = (posterior.coloured(t) for t in solution.t.unflatten(0, (n, 2)).unbind(1))
        coloured = posterior.coloured(white)
        log_det = posterior.log_det(white, solution.rows(slice(1, None, 2)))
        az, amean, ainverse, acoloured = (response(modes) for modes in (z, mean, inverse, coloured))
    inner = response.sky.inner
    b_z, b_mean = ((information.pull * a).flatten(1).sum(1) for a in (az, amean))
    energy = 0.5 * information.product(z, z, az, az)
    surrogate = (
        energy
        - b_z
        + b_mean
        - 0.5 * information.product(mean, mean, amean, amean)
        - 0.5 * information.product(inverse, coloured, ainverse, acoloured)
    )
    with torch.no_grad():
        value = energy - b_z + 0.5 * inner(whole.b(), mean) - 0.5 * log_det
        if proposal is not None:
            value = value + 0.5 * proposal.product(z, z, az, az) - (proposal.pull * az).flatten(1).sum(1)
    return surrogate + (value - surrogate).detach()
