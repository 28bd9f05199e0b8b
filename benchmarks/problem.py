"""The training benchmark's data: linear Gaussian, 15 parameters, 400 data values, everything in memory.

Needs numpy only, so that peers in environments of their own draw the same numbers.
"""

import numpy as np

PARAMETERS, VALUES, SIMULATIONS, BATCH = 15, 400, 20_000, 128


def simulations():
    """theta (N, 15) in [0, 1] and x (N, 400), float32."""
    rng = np.random.default_rng(0)
    theta = rng.random((SIMULATIONS, PARAMETERS))
    x = theta @ rng.standard_normal((PARAMETERS, VALUES)) + rng.standard_normal((SIMULATIONS, VALUES))
    return theta.astype("f4"), x.astype("f4")


def pairs():
    """The 105 pairs of parameters."""
    return [(i, j) for i in range(PARAMETERS) for j in range(i)]
