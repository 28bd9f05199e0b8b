r"""# Sources in the noise

A patch of sky holds some 150 point sources. A few stand out, most are fainter than the noise. How many are
there, how widely do their fluxes scatter, and how thick is the disk they lie in? A catalogue would throw the
faint ones away and would need to know what it missed; here nothing is detected at all. The map as a whole is
compared with simulated maps.

What a perfect catalogue would tell is known in closed form: with all $n$ sources at hand, fluxes $F_i$ and
latitudes $b_i$,

$$\ln p(\text{catalogue} \mid \lambda, \Sigma, h) = n \ln \lambda - \lambda
  + \sum_i \left[ \ln N(\ln F_i; \mu, \Sigma^2) + \ln N(b_i; 0, h^2) \right] + \text{const} .$$

A map holds less than that, so its posterior is the wider one, but for chance: a check from one side.
"""

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy import stats

import tmnre
from tmnre_popsources.histograms import ZoneHistograms, bin_edges, patch_neighbours, patch_zones
from tmnre_popsources.patch import Patch, PatchSimulator, Scene

# %% The instrument
# 64 x 64 pixels of 1.25 degrees, a Gaussian point spread function, one count of background in every pixel.
# A `Scene` of your own may have other laws of flux and place, an exposure map and diffuse emission.
patch = Patch()
scene = Scene.of(patch)
summary = ZoneHistograms(patch_zones(scene.pixels), patch_neighbours(scene.pixels), bin_edges(24, 3000.0))
simulator = PatchSimulator(scene, summary=summary, redraw_noise=False)

# %% A map
# Counts are whole numbers, rows are latitude. Yours would be read from a file; this one is drawn.
truth = {"expected_sources": 150.0, "flux_width": 1.5, "height_deg": 10.0}
generator = torch.Generator().manual_seed(3)
sources = scene.draw(torch.tensor([list(truth.values())], dtype=torch.float64), generator)
counts = scene.counts(scene.expected(sources, 1), generator)
bright = int((sources.log_flux.exp() * patch.exposure > 30).sum())
print(f"{len(sources.row)} sources, of which {bright} have more than 30 photons; {int(counts.sum())} photons")

# %% Inference
# The network sees histograms of counts in zones of the map. Sources themselves cannot be drawn anew while
# training, so more simulations help more than more steps.
observation = {name: array[0].numpy() for name, array in simulator.summarised(counts).items()}
training = tmnre.Training(batch_size=128)
result = tmnre.infer(
    simulator, observation, [*truth], simulations=10_000, rounds=2, training=training, truth=truth, quiet=True
)
print(f"{result.simulations} maps were simulated")

# %% What a perfect catalogue would say
# Under flat priors the number is Gamma distributed; the two widths are followed along a grid.
b, log_flux = sources.b_deg.numpy(), sources.log_flux.numpy()
prior = simulator.prior
perfect = {}
for name, log_l in {
    "expected_sources": lambda v: stats.poisson.logpmf(len(b), v),
    "flux_width": lambda v: stats.norm.logpdf(log_flux, patch.mean_log_flux, v[:, None]).sum(1),
    "height_deg": lambda v: stats.norm.logpdf(b, 0, v[:, None]).sum(1),
}.items():
    grid = np.linspace(*prior[name].support, 4000)
    weight = np.exp(log_l(grid) - log_l(grid).max())
    mean = np.average(grid, weights=weight)
    perfect[name] = mean, np.sqrt(np.average((grid - mean) ** 2, weights=weight))
for name, (mean, sd) in perfect.items():
    low, high = result[name].interval(0.9)[0]
    print(
        f"{name}: {low:.3g} to {high:.3g} with 90%, true {truth[name]:.3g}; standard deviation {result[name].sd:.2g}, "
        f"with a perfect catalogue {mean:.3g} +- {sd:.2g}"
    )

# %% Is it calibrated?
# Simulations that training never saw say how often intervals hold the truth.
for name, checked in result.rounds[-1]["coverage"].items():
    if name in truth:
        print(f"{name}: of the 90% intervals {100 * checked['0.90']:.0f}% hold the truth")

# %% A picture
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
for axis, (name, (mean, sd)) in zip(axes, perfect.items(), strict=True):
    draws = result[name].sample(20_000)
    axis.hist(draws, 50, density=True, color="C0", alpha=0.4, label="from the map")
    grid = np.linspace(*axis.get_xlim(), 300)
    axis.plot(grid, stats.norm.pdf(grid, mean, sd), color="0.2", label="perfect catalogue")
    axis.axvline(truth[name], color="C3", label="truth")
    axis.set(xlabel=name, yticks=[])
axes[0].legend(frameon=False, fontsize=8)

# %% Where to go on
# Detected and hidden sources apart, and joined again with what was missed: `tmnre run
# popsources/detection-is-truncation --out runs/detection`. Real gamma-ray skies, HEALPix maps from your files:
# `popsources/fermi-highlat` and `popsources/gce`.
