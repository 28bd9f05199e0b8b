r"""# A lens, and what its image can tell

A galaxy bends the light of another behind it into a ring. From the image we ask for the ring's radius, the
shape of the lens, the tide of its neighbours, and where the source is and how large.

The simulator is differentiable, so there is a forecast to compare with. With derivatives $J$ of the image's
pixels and noise $\sigma$ in each, the posterior of a good image is close to a Gaussian with the covariance

$$C = \sigma^2 \, (J^T J)^{-1} .$$

"""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from tqdm import tqdm

from tmnre import Training
from tmnre.plugin import find_recipe
from tmnre.rounds import Rounds
from tmnre_lensing.simulator import theta_of

# %% A recipe, with settings of one's own
# `find_recipe` gives what `tmnre run lensing/demo` runs; its settings are a dataclass, the same that `tmnre show
# lensing/demo` lists. Here coarser pixels, fewer simulations and steps than by default, for a first look.
recipe = find_recipe("lensing/demo")
settings = recipe.settings()
settings = replace(
    settings,
    truth=replace(settings.truth, lens_theta_e_arcsec=1.2, shear_gamma1=-0.05),
    camera=replace(settings.camera, pixels=24, pixel_arcsec=0.2),
    simulations=3000,
    boxes=3,
    steps=300,
    final_simulations=8000,
    final_steps=500,
    training=Training(batch_size=256),
)
analysis = recipe.build(settings)
simulator, truth = analysis.simulator, analysis.truth
print(f"an image of {analysis.observation['image'].shape} pixels; unknown: {', '.join(simulator.prior)}")

# %% The forecast
# Derivatives of all pixels with respect to all parameters, by automatic differentiation.
theta = torch.from_numpy(theta_of(truth, simulator.prior.names))
jacobian = torch.func.jacfwd(lambda t: simulator.images(t[None])[0].flatten())(theta[0])
covariance = settings.camera.noise_e_per_s**2 * torch.linalg.inv(jacobian.T @ jacobian).numpy()
forecast = dict(zip(simulator.prior, np.sqrt(np.diag(covariance)), strict=True))

# %% Inference
# In boxes first, then in the contour of the joint ratio: most parameters are strongly correlated.
folder = Path(tempfile.mkdtemp())
quiet = {"progress": partial(tqdm, disable=True), "say": lambda _: None}
result = Rounds(analysis, folder / "run", **quiet).run()
print(f"{result.simulations} images; log volume of the last region {result.rounds[-1]['log_volume']:.1f}")

# %% Both beside each other
for name, sd in forecast.items():
    mean = float(result[name].weights @ result[name].samples[:, 0])
    print(
        f"{name}: off the truth by {(mean - truth[name]) / sd:+.1f} sd, width over forecast {result[name].sd / sd:.2f}"
    )

# %% A picture
# The pair of ellipticity and shear is hardest: after so short a training its draws are wider across the forecast's
# ellipse than they should be, while each parameter alone is right. The recipe's own settings train for longer.
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
axes[0].imshow(analysis.observation["image"], origin="lower", cmap="magma")
axes[0].set(title="the data", xticks=[], yticks=[])
names = ("lens_e1", "shear_gamma1")
draws = result[names].sample(3000)
axes[1].plot(*draws.T, ".", ms=1.5, alpha=0.4, label="learned")
pair = [simulator.prior.names.index(name) for name in names]
angle = np.linspace(0, 2 * np.pi, 200)
circle = 2.146 * np.stack([np.cos(angle), np.sin(angle)])
ellipse = np.linalg.cholesky(covariance[np.ix_(pair, pair)]) @ circle + draws.mean(0)[:, None]
axes[1].plot(*ellipse, color="0.2", label="90% of the forecast")
axes[1].plot(truth[names[0]], truth[names[1]], "+", ms=12, color="C3", label="truth")
axes[1].set(xlabel=names[0], ylabel=names[1])
axes[1].legend(frameon=False, fontsize=8)

# %% Where to go on
# An image of your own, from FITS files: `tmnre run lensing/slacs --out runs/mine --files.folder FOLDER
# --cut.pixel_arcsec 0.05`. A subhalo in it: `lensing/subhalo`.
