r"""# Finding one person in the crowd

A hundred people talk at once, and forty microphones record the sum. How loud is number 17? A joint
posterior would describe all hundred voices and every relation between them. A marginal asks one question,
and costs what one question costs, however large the crowd.

Voice $i$ has a loudness $z_i \sim N(0, 1)$ and reaches the microphones with a profile $f_i$; the rest is
noise:

$$x = \sum_i z_i f_i + \epsilon .$$

All of it is Gaussian, so the exact posterior of one voice is known: with $C = F F^T + \sigma^2$, mean
$f_{17}^T C^{-1} x$ and variance $1 - f_{17}^T C^{-1} f_{17}$. There are more people than microphones, so no
voice can be told apart entirely.
"""

import numpy as np
import torch

import tmnre

PEOPLE, MICROPHONES, NOISE = 100, 40, 0.3


# %% A crowd
class Crowd(tmnre.Simulator):
    """A hundred voices at forty microphones in a row."""

    prior = tmnre.Prior({f"voice_{i}": tmnre.Normal(0, 1) for i in range(PEOPLE)})

    def __init__(self):
        where = np.linspace(0, 1, MICROPHONES)[:, None]
        people = np.random.default_rng(0).uniform(0, 1, PEOPLE)
        self.profiles = np.exp(-0.5 * ((where - people) / 0.03) ** 2)
        # number 17 stands at the loudest microphone's side
        self.profiles[:, 17] *= 2

    def simulate(self, theta, rng):
        return {"sound": (theta @ self.profiles.T).astype(np.float32)}

    def observe(self, stored, theta, generator):
        return {"sound": stored["sound"] + NOISE * torch.randn(stored["sound"].shape, generator=generator)}


crowd = Crowd()
rng = np.random.default_rng(3)
voices = crowd.prior.sample(1, rng)
voices[0, 17] = 1.5
sound = (crowd.simulate(voices, rng)["sound"][0] + NOISE * rng.standard_normal(MICROPHONES)).astype("f4")

# %% One question
# `marginals` names what is learned and `truncated` what the region may be cut in: only this voice. The other
# ninety-nine stay free, are drawn in every simulation, and are never learned.
result = tmnre.infer(
    crowd,
    {"sound": sound},
    marginals=["voice_17"],
    truncated=["voice_17"],
    embedding=lambda x: tmnre.ResidualMLP(x, 64, 1),
    training=tmnre.Training(batch_size=256),
    simulations=40_000,
    rounds=2,
    quiet=True,
)
found = result["voice_17"].summary()
print(f"voice 17: {found['mean']:.2f} +- {found['sd']:.2f}, learned from {result.simulations} simulations")

# %% The exact answer
covariance = crowd.profiles @ crowd.profiles.T + NOISE**2 * np.eye(MICROPHONES)
gain = np.linalg.solve(covariance, crowd.profiles[:, 17])
mean, sd = gain @ sound, np.sqrt(1 - gain @ crowd.profiles[:, 17])
print(f"exactly:  {mean:.2f} +- {sd:.2f}; the truth is {voices[0, 17]}")

# %% A picture
figure = result.plot()
axis = figure.axes[0]
grid = np.linspace(*axis.get_xlim(), 200)
axis.plot(grid, np.exp(-0.5 * ((grid - mean) / sd) ** 2), color="0.2", ls=":", label="exact")
axis.legend(frameon=False, fontsize=8)
