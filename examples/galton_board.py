r"""# The Galton board

A ball falls through twenty rows of pegs and goes right at each with probability $p$. We see in which bins
fifty balls ended, and ask for $p$. Every single bounce, a thousand of them, is a hidden variable of the
simulator. A likelihood would sum over all their paths; a simulator just lets the balls fall, and never
names what nobody asks about.

Here the sum can be done: with $s$ steps to the right out of $n$, the posterior under a flat prior is a Beta
distribution,

$$p(p \mid s) \propto p^{s} (1 - p)^{n - s} .$$

"""

import numpy as np
from scipy import stats

import tmnre

ROWS, BALLS = 20, 50


# %% A simulator is a prior and a function
# `simulate` gets parameters `theta` with a row for every simulation, and a random generator for everything
# random in it. It returns named arrays, a row for every row of `theta`. That row $i$ depends on row $i$ of
# `theta` only is all the core asks.
class GaltonBoard:
    """Bins of fifty balls after twenty rows of pegs."""

    prior = tmnre.Prior(p=tmnre.Uniform(0, 1))

    def simulate(self, theta, rng):
        bounces = rng.random((len(theta), BALLS, ROWS)) < theta[:, :1, None]
        bins = bounces.sum(axis=2)
        counts = np.stack([(bins == k).sum(axis=1) for k in range(ROWS + 1)], axis=1)
        return {"counts": counts.astype(np.float32)}


# %% An observation
# A board that leans a little to the right.
board = GaltonBoard()
observed = board.simulate(np.array([[0.6]]), np.random.default_rng(1))["counts"][0]
print("balls in each bin:", observed.astype(int).tolist())

# %% Inference
# Rounds of simulating, training and truncating, until the region stops shrinking.
result = tmnre.infer(board, {"counts": observed}, ["p"], simulations=2000, rounds=4, quiet=True)
low, high = result["p"].interval(0.9)[0]
print(f"p is between {low:.3f} and {high:.3f} with 90% probability; {result.simulations} simulations were run")

# %% The exact answer beside it
right = int((np.arange(ROWS + 1) * observed).sum())
exact = stats.beta(1 + right, 1 + ROWS * BALLS - right)
print(f"exactly:   {exact.ppf(0.05):.3f} and {exact.ppf(0.95):.3f}")

# %% A picture
figure = result.plot()
axis = figure.axes[0]
grid = np.linspace(*axis.get_xlim(), 200)
axis.plot(grid, exact.pdf(grid) / exact.pdf(grid).max(), color="0.2", ls=":", label="exact")
axis.legend(frameon=False, fontsize=8)
