r"""# A black hole binary in simulated noise

Two black holes merge, and two detectors see a chirp of a fifth of a second in their noise. Masses, distance,
inclination, phase and arrival time are unknown; the sky position is taken as known, which makes this a first
look. All fifteen parameters of a real event are `gw/gw150914` and `gw/bbh`.

Only masses need a new waveform. Distance, inclination, phase, time and noise are drawn anew at every use of a
stored one, so that some thousand waveforms are enough where a nested sampler asks for a million.
"""

import json
import os
import tempfile
from pathlib import Path

from tmnre.cli import main
from tmnre.result import load_marginals

WORK = Path(os.environ.get("TMNRE_EXAMPLES") or tempfile.mkdtemp(prefix="gw-"))

# %% The command line
# `main` is the command `tmnre`; in a terminal this is `tmnre run gw/demo --injection.chirp_mass 28 ...`. What
# can be set, with units and defaults, is listed by `tmnre run gw/demo --help`. Fewer steps than by default: this
# takes a few minutes.
settings = {
    "injection.chirp_mass": "28",
    "injection.luminosity_distance": "700",
    "waveforms": "[3000,3000,4000]",
    "steps": "[300,300,1000]",
    "seed": "2",
}
words = [word for name, value in settings.items() for word in (f"--{name}", value)]
assert main(["run", "gw/demo", *words, "--out", str(WORK / "run"), "--quiet"]) == 0

# %% What it leaves
# `report.html` is the page to open. For scripts, `summary.json` and the samples with their weights.
summary = json.loads((WORK / "run" / "summary.json").read_text())
posterior = load_marginals(WORK / "run" / "posterior.h5")
print(f"{summary['simulations']} waveforms")
for name, truth in summary["truth"].items():
    if (name,) in posterior:
        low, high = posterior[name,].interval(0.9)[0]
        print(f"{name}: {low:.4g} to {high:.4g} with 90%, true {truth:.4g}")

# %% Does it deserve trust?
# Every run is held against simulations that training never saw, and says in words what fails.
for check in summary["diagnostics"]:
    if not check["passed"]:
        print("failed:", check["name"])
print(f"{sum(check['passed'] for check in summary['diagnostics'])} of {len(summary['diagnostics'])} checks passed")

# %% Going on
# `tmnre resume run` goes on where a run was stopped, `tmnre report run` writes the page again, `tmnre cite run`
# names the papers. With data of your own: `tmnre run gw/bbh --strain.h1 FILE --strain.l1 FILE --trigger_gps_s T`.
