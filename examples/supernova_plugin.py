r"""# A plugin of one's own: cosmology from supernovae

Type Ia supernovae have nearly the same luminosity, so their brightness tells their distance, and distances
at many redshifts tell what the universe is made of. The plugin built here infers the matter density
$\Omega_m$ and the equation of state $w$ of dark energy, after SICRET
([2209.06733](https://arxiv.org/abs/2209.06733)) but far simpler: distances by `astropy.cosmology`, scatter
of 0.15 mag, and an unknown zero point of the magnitudes.

It takes four steps: let `tmnre new-plugin` write a package, put the physics in, install, check. This script
does what you would do by hand; the files it puts in are in `examples/supernova`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = Path(os.environ.get("TMNRE_EXAMPLES") or tempfile.mkdtemp(prefix="supernova-"))


def shell(*words):
    """Run a command and show it and what it says."""
    print("$", " ".join(words).replace(str(WORK), "."))
    where = os.pathsep.join([str(WORK / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "tmnre.cli" if words[0] == "tmnre" else words[0], *words[1:]]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": where}, capture_output=True, text=True)
    print(done.stdout.replace(str(WORK), "."), end="")
    if done.returncode:
        raise SystemExit(done.stderr)


# %% Write a package
# It works as it stands, with radioactive decay as its physics.
shell("tmnre", "new-plugin", "supernova", "--into", str(WORK))
folder = WORK / "tmnre-supernova"

# %% Put the physics in
# The simulator computes distance moduli, which is what costs. Scatter and zero point are cheap and drawn anew
# at every use. The embedding averages neighbours in redshift; the recipe says what is asked.
package = folder / "src" / "tmnre_supernova"
(package / "recipes" / "decay.py").unlink()
(folder / "tests" / "test_decay.py").unlink()
for name in ("simulator.py", "embedding.py", "figures.py", "plugin.py", "recipes/hubble.py"):
    shutil.copy(HERE / "supernova" / Path(name).name, package / name)
shutil.copy(HERE / "supernova" / "test_hubble.py", folder / "tests")
project = folder / "pyproject.toml"
project.write_text(project.read_text().replace('["tmnre>=0.1,<0.2"]', '["tmnre>=0.1,<0.2", "astropy>=6"]'))
print((package / "simulator.py").read_text())

# %% Install it
# In a terminal: `pip install -e tmnre-supernova`. Here into a folder of its own, which leaves the environment
# alone.
pip = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(WORK / "site"), str(folder))
shell("pip", "install", *pip)
shell("tmnre", "recipes")

# %% Check it
# The conformance kit: shapes, types, seeds, independent rows, gradients, settings, citations, and the smoke
# preset from its settings to its page. A check that fails says what to do.
shell("tmnre", "check", "supernova")

# %% Run it
preset = ("--preset", os.environ["TMNRE_PRESET"]) if "TMNRE_PRESET" in os.environ else ()
shell("tmnre", "run", "supernova/hubble", "--out", str(WORK / "run"), "--quiet", *preset)
shell("tmnre", "cite", str(WORK / "run"))

# %% Its posterior
# `run/report.html` is the page to open. The samples are in `posterior.h5`.
from tmnre.result import load_marginals  # noqa: E402

posterior = load_marginals(WORK / "run" / "posterior.h5")
for name in ("omega_m", "w"):
    low, high = posterior[name,].interval(0.9)[0]
    print(f"{name} between {low:.2f} and {high:.2f} with 90% probability")
print(f"effective samples of the pair: {posterior['omega_m', 'w'].effective_sample_size:.0f}")
