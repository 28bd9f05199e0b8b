r"""# The spectrum under a map

A map is one draw of a Gaussian random field, seen with white noise. We ask for the amplitude and the slope of
the power spectrum it was drawn from: two numbers, with a thousand pixels in between that nobody asks about.

For this field there is an exact answer to compare with. On a periodic grid all Fourier modes are independent,
and mode $k$ of the data has the variance $P(k) + N$, so that

$$-2 \ln p(x \mid \theta) = \sum_k \left[ \ln 2\pi (P_k + N) + \frac{|x_k|^2}{P_k + N} \right] ,$$

the likelihood of Whittle. For the exponential of the field, or with a mask, there is none; the lines below
stay as they are.
"""

import numpy as np
import torch
from matplotlib import pyplot as plt

import tmnre
from tmnre_fields import spectrum
from tmnre_fields.embedding import SpectrumNet
from tmnre_fields.simulator import FieldSimulator, Grid

# %% A map
# Any square array will do: `np.load("map.npy")`, `astropy.io.fits.getdata("map.fits")`. Here one is drawn, 32
# pixels wide, so that the truth is known.
grid = Grid(pixels=32, noise=0.3, exponentiate=False)
prior = tmnre.Prior(rms=tmnre.LogUniform(0.4, 1.6), slope=tmnre.Uniform(1.5, 4.5))
simulator = FieldSimulator(grid, prior)
truth = np.array([[0.8, 3.0]])
z = torch.from_numpy(simulator.simulate(truth, np.random.default_rng(5))["z"])
x = simulator.observe({"z": z}, torch.from_numpy(truth), torch.Generator().manual_seed(5))["x"][0].numpy()
print(f"a map of {x.shape[0]} x {x.shape[1]} pixels with standard deviation {x.std():.2f}, of which noise {grid.noise}")

# %% Inference
# The simulator draws fields and stores them; noise is new at every use. The embedding of the plugin reads the
# power in annuli, which is all there is to know of a Gaussian field.
result = tmnre.infer(
    simulator,
    {"x": x},
    ["rms", "slope", ("rms", "slope")],
    simulations=20_000,
    rounds=2,
    embedding=SpectrumNet,
    quiet=True,
)
print(f"{result.simulations} fields were drawn")

# %% The exact answer beside it
# Whittle's likelihood on a grid of prior quantiles, where the prior is flat.
n = 200
u = (np.arange(n) + 0.5) / n
theta = torch.from_numpy(prior.from_cube(np.stack(np.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2)))
how = {"pixels": grid.pixels, "knee": grid.knee_cycles_per_box, "noise": grid.noise}
log_l = torch.cat([spectrum.whittle(torch.from_numpy(x), *part.T, **how) for part in theta.split(1000)])
exact = torch.softmax(log_l, 0).view(n, n).numpy()
for i, name in enumerate(prior):
    levels = np.interp([0.05, 0.5, 0.95], exact.sum(1 - i).cumsum(), u + 0.5 / n)
    low, middle, high = prior[name].quantile(levels)
    found = np.quantile(result[name].sample(20_000), [0.05, 0.5, 0.95])
    print(f"{name}: {found[1]:.2f} ({found[0]:.2f} to {found[2]:.2f}), exactly {middle:.2f} ({low:.2f} to {high:.2f})")

# %% A picture
# Contours of the exact posterior over draws of the learned one.
figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
draws = result["rms", "slope"].sample(4000)
axis.plot(*draws.T, ".", ms=1.5, alpha=0.4, color="C0", label="learned")
ordered = np.sort(exact.ravel())[::-1]
thresholds = [ordered[np.searchsorted(ordered.cumsum(), share)] for share in (0.9, 0.5)]
rms, slope = (prior[name].quantile(u) for name in prior)
axis.contour(rms, slope, exact.T, thresholds, colors="0.2", linewidths=1)
axis.plot([], [], color="0.2", label="exact, 50% and 90%")
axis.plot(*truth[0], "+", ms=12, color="C3", label="truth")
axis.set(xlim=np.quantile(draws[:, 0], [0, 1]), ylim=np.quantile(draws[:, 1], [0, 1]), xlabel="rms", ylabel="slope")
axis.legend(frameon=False, fontsize=8)

# %% Where to go on
# Every pixel instead of two numbers: `tmnre run fields/expgrf --out runs/field`. The sphere, masks, two
# components in several channels: `fields/wmap` and `fields/separation`.
