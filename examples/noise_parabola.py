r"""# x = v z² + noise

The smallest model with everything that makes inference hard. From $x = v z^2 + \epsilon$ follow neither the
sign of $z$ nor how much of $x$ is $v$ and how much $z^2$: the posterior of $z$ has two modes, the joint one
two curved ridges.

$$v \sim U(0, 1), \quad z \sim U(-1, 1), \quad \epsilon \sim N(0, 0.05^2).$$

"""

import numpy as np
import torch

import tmnre

NOISE = 0.05


# %% Costly and cheap
# What is costly goes into `simulate` and is stored. Noise is cheap: `observe` draws it anew whenever a
# simulation is used, so that a network never sees the same data twice. That makes every simulation worth
# many.
class Parabola(tmnre.Simulator):
    """x = v z^2, and noise."""

    prior = tmnre.Prior(v=tmnre.Uniform(0, 1), z=tmnre.Uniform(-1, 1))

    def simulate(self, theta, rng):
        return {"x": theta[:, :1] * theta[:, 1:] ** 2}

    def observe(self, stored, theta, generator):
        return {"x": stored["x"].float() + NOISE * torch.randn(stored["x"].shape, generator=generator)}


# %% Three marginals at once
# One network learns the marginals of $v$, of $z$ and of the pair. A joint marginal is asked for as a tuple:
# two marginals of one parameter each do not make a joint.
x_o = 0.6
result = tmnre.infer(
    Parabola(),
    {"x": np.array([x_o], "f4")},
    ["v", "z", ("v", "z")],
    simulations=5000,
    rounds=4,
    truncation=tmnre.Truncation(epsilon=1e-3),
    training=tmnre.Training(batch_size=256),
    quiet=True,
)
for name in ("v", "z"):
    modes = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in result[name].hpd(0.9))
    print(f"90% of {name} within {modes}")

# %% What truncation did
# The middle of $z$ cannot have made this $x$. The region keeps one interval for each mode; what lies between
# is a gap and is not simulated any more.
last = result.rounds[-1]["region"]
print("region, in prior quantiles:", {name: [round(edge, 2) for edge in edges] for name, edges in last["cube"].items()})
print("gaps:", {name: np.round(gaps, 2).tolist() for name, gaps in last.get("gaps", {}).items()})

# %% The exact marginals
# On a grid, to compare with.
v, z = np.linspace(0, 1, 801), np.linspace(-1, 1, 1601)
exact = np.exp(-0.5 * ((x_o - v[:, None] * z**2) / NOISE) ** 2)
exact /= exact.sum()

# %% A picture
figure = result.plot()
for axis, grid, density in ((figure.axes[0], v, exact.sum(1)), (figure.axes[1], z, exact.sum(0))):
    axis.plot(grid, density / density.max(), color="0.2", ls=":")
