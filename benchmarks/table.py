"""One table of peers, from what the benchmarks stored: python benchmarks/table.py

Prints it, and writes it between the two markers of README.md.  A ratio is ours over the peer's for rates and the
peer's over ours for times, costs and errors, so that more than one speaks for us; ratios are of neighbouring runs, or
of single values where runs did not take turns.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
README = HERE / "README.md"
VALIDATION = HERE.parent / "validation" / "results"
MARKERS = ("<!-- table.py: begin -->", "<!-- table.py: end -->")
ENOUGH = 5
PUBLISHED_MAPS_PER_SECOND = (210.0, 530.0)
"""slowest and fastest in the notebooks' progress bars of the public code of 2211.04291, a machine of its own"""


@dataclass(frozen=True)
class Row:
    """One comparison: values of every repeat, and where they come from."""

    what: str
    peer: str
    unit: str
    ours: list[float]
    theirs: list[float]
    made: dict
    more_is_better: bool = False
    note: str = ""
    package: str = field(default="", kw_only=True)
    """whose pinned version stands in for {} in `peer`"""

    def cells(self) -> list[str]:
        pairs = list(zip(self.ours, self.theirs, strict=True))
        ratios = [a / b if self.more_is_better else b / a for a, b in pairs]
        repeats = f"{len(pairs)}" + ("" if len(pairs) >= ENOUGH else ", fewer than five")
        spread = f"{_short(min(ratios))} to {_short(max(ratios))}" if len(pairs) > 1 else "-"
        return [
            f"{self.what} [{self.unit}]",
            self.peer.format(_version(self.package)),
            f"{_short(statistics.median(self.ours))} / {_short(statistics.median(self.theirs))}",
            _short(statistics.median(ratios)),
            spread,
            repeats + (f" ({self.note})" if self.note else ""),
            self.made.get("commit", "-"),
            self.made.get("date", "-"),
        ]


def training() -> Iterator[Row]:
    """The core beside swyft and sbi."""
    for title, found in _load("training_throughput").items():
        peer, what = title.split(", ", 1)
        pairs = (found["tmnre"], found["peer"])
        yield Row(f"training, {what}", f"{peer} {{}}", "samples / s", *pairs, found, True, package=peer)


def gw() -> Iterator[Row]:
    """Training examples beside bilby's, and a whole analysis beside dynesty through bilby."""
    names = {"examples_compressed": "stored waveforms", "examples_with_waveforms": "their making included"}
    for approximant, found in _load("gw_throughput").items():
        for key, name in names.items():
            what = f"gw examples, {approximant}, {name}"
            yield Row(what, "bilby {}", "1 / s", found[key], found["bilby"], found, True, package="bilby")
    found = json.loads((VALIDATION / "gw_demo.json").read_text())
    with np.load(VALIDATION / "gw_demo_dynesty.npz") as sampled:
        seconds = float(sampled["wall_s"])
    how = {"made": found, "package": "dynesty"}
    peer, calls = "dynesty {} through bilby", ([found["waveforms"]], [found["nested_sampling_calls"]])
    yield Row("gw/demo, waveforms against likelihood calls", peer, "number", *calls, **how)
    threads = f"{found['torch_threads']} threads against one process"
    yield Row("gw/demo, wall time", peer, "s", [found["wall_s"]], [seconds], note=threads, **how)


def lensing() -> Iterator[Row]:
    """Lens images beside caustics and lenstronomy."""
    found = _load("lensing_throughput")
    ours = found.get("tmnre", {}).get("ms_per_image")
    for peer, entry in found.items():
        if peer != "tmnre" and "ms_per_image" in entry:
            package, _, profile = peer.partition(" ")
            name = f"{package} {{}}" + (f", {profile}" if profile else "")
            times = (ours, entry["ms_per_image"])
            yield Row("lens images", name, "ms", *times, found.get("made", {}), package=package)


def popsources() -> Iterator[Row]:
    """Maps beside the rates that the published code's notebooks show."""
    found = _load("popsources_simulator")
    if found:
        rates = found["maps_per_second_one_core"]["as published"]["counts"]
        for which, rate in zip(("slowest", "fastest"), PUBLISHED_MAPS_PER_SECOND, strict=True):
            peer = f"published code of 2211.04291, {which} rate quoted"
            yield Row("maps of point sources", peer, "1 / s", rates, [rate] * len(rates), found, True)


def fields() -> Iterator[Row]:
    """Fields beside NIFTy: time until ready, time a draw, and error."""
    for pixels, found in sorted(_load("fields_nifty").items(), key=lambda item: int(item[0])):
        for method, name in (("mgvi", "NIFTy {}, MGVI"), ("geovi", "NIFTy {}, geoVI")):
            size = f"fields {pixels} x {pixels}"
            how = {"made": found, "package": "nifty8"}
            draws = ([1e3 * s["cpu_s"] for s in found[who]["draw"]] for who in ("tmnre", method))
            yield Row(f"{size}, a draw", name, "ms", *draws, **how)
            if found["training"]:
                ours, theirs = ([s["cpu_s"] for s in found[who]["ready"]] for who in ("tmnre", method))
                first = [found["training"]["cpu_s"] + s for s in ours]
                yield Row(f"{size}, ready for one observation", name, "s", first, theirs, note="one training", **how)
                yield Row(f"{size}, ready for another", name, "s", ours, theirs, **how)
            if "against_hmc" in found:
                errors = ([found["against_hmc"][who]["mean_error_sd_rms"]] for who in ("tmnre", method))
                note = f"{found['against_hmc']['hmc']['observations']} observations pooled"
                yield Row(f"{size}, mean off HMC's", name, "sd, rms", *errors, note=note, **how)


GROUPS = (training, gw, lensing, popsources, fields)


def table() -> str:
    """The table, in Markdown."""
    head = ["what", "peer", "ours / peer's, medians", "ratio, median", "range", "repeats", "commit", "date"]
    rows = [row.cells() for group in GROUPS for row in group()]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def replaced(text: str) -> str:
    """A page with today's table between its markers."""
    begin, end = text.index(MARKERS[0]) + len(MARKERS[0]), text.index(MARKERS[1])
    return f"{text[:begin]}\n\n{table()}\n{text[end:]}"


@cache
def _version(package: str) -> str:
    """The version pinned for a peer, or for ourselves."""
    pins = [*sorted((HERE / "peers").glob("*-requirements.txt")), HERE.parent / "constraints.txt"]
    for path in pins:
        if found := re.search(rf"^{re.escape(package)}==(\S+)", path.read_text(), re.MULTILINE):
            return found[1]
    return ""


def _load(name: str) -> dict:
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _short(value: float) -> str:
    """Three significant digits, thousands set apart, no exponent."""
    digits = f"{value:.3g}"
    return f"{float(digits):,.0f}" if abs(value) >= 100 else f"{float(digits):g}" if abs(value) >= 1e-4 else digits


def main() -> None:
    print(table())
    README.write_text(replaced(README.read_text()))


if __name__ == "__main__":
    main()
