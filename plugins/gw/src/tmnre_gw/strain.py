"""Detector data from files: GWOSC HDF5 strain, power spectral densities, windowing and whitening."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.signal import welch
from scipy.signal.windows import tukey

from tmnre_gw.band import Band


@dataclass(frozen=True)
class Strain:
    """One detector's strain, (T,) dimensionless, from `start_gps_s` at `rate_hz`."""

    detector: str
    start_gps_s: float
    rate_hz: float
    values: np.ndarray

    @property
    def end_gps_s(self) -> float:
        """GPS time just after the last sample."""
        return self.start_gps_s + len(self.values) / self.rate_hz

    def segment(self, start_gps_s: float, duration_s: float) -> np.ndarray:
        """Samples of a time span.

        Raises ValueError when the file does not cover it or holds NaN (a gap in the data) within it.
        """
        first = round((start_gps_s - self.start_gps_s) * self.rate_hz)
        n = round(duration_s * self.rate_hz)
        if first < 0 or first + n > len(self.values):
            raise ValueError(
                f"{self.detector} strain covers GPS {self.start_gps_s:.3f} to {self.end_gps_s:.3f}, but the analysis "
                f"needs {start_gps_s:.3f} to {start_gps_s + duration_s:.3f}; take a longer file or another duration"
            )
        values = self.values[first : first + n]
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"{self.detector} strain has {len(bad)} NaN or infinite samples between GPS "
                f"{start_gps_s + bad[0] / self.rate_hz:.3f} and {start_gps_s + bad[-1] / self.rate_hz:.3f} "
                f"(a gap in the data); choose a segment without gaps"
            )
        return values


def read_strain(
    path: Path | str, detector: str, *, channel: str | None = None, near_gps_s: float | None = None
) -> Strain:
    """Strain of a GWOSC HDF5 file, of a GWF frame (through gwpy, where that is installed), or of plain text.

    Plain text is GWOSC's, a column of strain under a header that tells start and rate, or two columns, time in GPS s
    and strain.  channel: of a frame, with {detector} for the name; of long frames what lies about `near_gps_s` is read.

    Raises FileNotFoundError, or ValueError when it is no such file or belongs to another detector.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no strain file {path} for {detector}; expected a GWOSC HDF5 file")
    names = path.name.removesuffix(".gz")
    if names.endswith(".gwf"):
        found = _frame(path, detector, channel, near_gps_s)
    elif names.endswith((".txt", ".dat", ".csv")) and not h5py.is_hdf5(path):
        found = _text(path, detector)
    else:
        found = _hdf5(path)
    if found.detector != detector:
        raise ValueError(
            f"{path} holds strain of {found.detector}, but it was given for {detector}; exchange the files"
        )
    return found


def _hdf5(path: Path) -> Strain:
    try:
        with h5py.File(path) as file:
            data = file["strain/Strain"]
            found = file["meta/Detector"][()].decode()
            start, step = float(data.attrs["Xstart"]), float(data.attrs["Xspacing"])
            return Strain(found, start, 1 / step, data[:].astype(float))
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{path} is not a GWOSC HDF5 strain file ({error}); expected strain/Strain and meta/Detector"
        ) from error


FRAME_CHANNELS = ("{detector}:GWOSC-4KHZ_R1_STRAIN", "{detector}:LOSC-STRAIN", "{detector}:GDS-CALIB_STRAIN")
"""channels of public frames, tried in order"""
AROUND_S = 512.0
"""s of a long frame that are read on either side of the trigger"""


def _frame(path: Path, detector: str, channel: str | None, near_gps_s: float | None) -> Strain:
    """Strain of a GWF frame about a time."""
    try:
        from gwpy.timeseries import TimeSeries
    except ImportError as error:
        raise ValueError(f"{path} is a GWF frame, which gwpy reads: pip install 'tmnre-gw[frames]'") from error
    named = re.search(r"-(\d+)-(\d+)\.gwf$", path.name)
    span = {}
    if named and near_gps_s is not None:
        first, length = int(named[1]), int(named[2])
        span = {"start": max(first, near_gps_s - AROUND_S), "end": min(first + length, near_gps_s + AROUND_S)}
    problems = []
    for template in (channel,) if channel else FRAME_CHANNELS:
        try:
            series = TimeSeries.read(path, template.format(detector=detector), format="gwf", **span)
        except Exception as error:  # each of the backends raises errors of its own
            problems.append(
                f"{template.format(detector=detector)}: {str(error).splitlines()[0] if str(error) else error}"
            )
            continue
        return Strain(detector, float(series.t0.value), float(series.sample_rate.value), np.array(series.value, float))
    raise ValueError(f"no strain of {detector} in {path} ({'; '.join(problems)}); name its channel by --strain.channel")


def _text(path: Path, detector: str) -> Strain:
    """Strain of a text file."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    try:
        with opened as file:
            header = "".join(line for _, line in zip(range(10), file, strict=False) if line.startswith("#"))
        values = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a table of numbers: {error}; expected GWOSC text, or time and strain"
        ) from error
    if values.shape[1] == 2:
        times = values[:, 0]
        step = (times[-1] - times[0]) / (len(times) - 1)
        if not np.allclose(np.diff(times), step, rtol=1e-3):
            raise ValueError(f"times in {path} are not evenly spaced; fill gaps with nan")
        return Strain(detector, float(times[0]), float(1 / step), values[:, 1])
    start, rate = (
        re.search(pattern, header) for pattern in (r"starting GPS\s+([\d.]+)", r"(\d+)\s+(?:samples per second|Hz)")
    )
    if values.shape[1] != 1 or start is None or rate is None:
        raise ValueError(
            f"{path} has {values.shape[1]} columns and no header with start and rate; expected GWOSC text, or time and "
            f"strain"
        )
    named = re.search(r"\b([A-Z]\d)\b", header)
    return Strain(named[1] if named else detector, float(start[1]), float(rate[1]), values[:, 0])


def read_psd(path: Path | str, detectors: Sequence[str], frequencies_hz: np.ndarray) -> np.ndarray:
    """PSDs (detectors, F) in 1/Hz, interpolated to `frequencies_hz`.

    A text table: frequency in the first column, then one column a detector, in the order of the header line if that
    names the sites or detectors (the catalogue's files do), else in the order of `detectors`.  Raises
    FileNotFoundError or ValueError.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no PSD file {path}; expected a text table of frequency (Hz) and PSD (1/Hz) per detector"
        )
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is not a table of numbers: {error}") from error
    columns = _psd_columns(path, detectors, table.shape[1])
    grid = table[:, 0]
    if not (np.diff(grid) > 0).all():
        raise ValueError(f"frequencies in {path} must increase from line to line; sort the table")
    if grid[0] > frequencies_hz[0] or grid[-1] < frequencies_hz[-1]:
        raise ValueError(
            f"PSD in {path} covers {grid[0]:g} to {grid[-1]:g} Hz, but the band is {frequencies_hz[0]:g} to "
            f"{frequencies_hz[-1]:g} Hz; narrow the band or take another PSD"
        )
    psds = np.stack([np.interp(frequencies_hz, grid, table[:, c]) for c in columns])
    if (typical := float(np.median(psds))) > LOUDEST_PSD:
        hint = "these may be amplitude spectral densities (1/sqrt(Hz)), which must be squared" if typical < 1 else ""
        raise ValueError(
            f"PSD in {path} is about {typical:.1g} 1/Hz, expected about 1e-46, at most {LOUDEST_PSD:g}"
            f"{'; ' * bool(hint)}{hint}"
        )
    return psds


LOUDEST_PSD = 1e-36
"""1/Hz; a thousand times that of initial detectors' worst, and far below any amplitude spectral density"""
SITES = {"H1": "Hanford", "L1": "Livingston", "V1": "Virgo", "K1": "KAGRA"}


def _psd_columns(path: Path, detectors: Sequence[str], width: int) -> list[int]:
    with path.open() as file:
        header = file.readline()
    names = {name.lower(): detector for detector, site in SITES.items() for name in (detector, site)}
    names |= {detector.lower(): detector for detector in detectors}
    words = re.findall(r"[a-z0-9]+", header.lower().replace("_", " "))
    named = list(dict.fromkeys(names[word] for word in words if word in names))
    if header.startswith("#") and named:
        if len(named) != width - 1:
            raise ValueError(f"PSD file {path} has {width} columns, but its header names {named} beside the frequency")
        missing = [d for d in detectors if d not in named]
        if missing:
            raise ValueError(f"PSD file {path} has columns of {named}, none for {missing}")
        return [named.index(d) + 1 for d in detectors]
    if width != len(detectors) + 1:
        raise ValueError(
            f"PSD file {path} has {width} columns; expected frequency and one for each of {list(detectors)}"
        )
    return list(range(1, width))


def welch_psd(strain: Strain, band: Band, avoid_gps_s: tuple[float, float]) -> np.ndarray:
    """Median-Welch PSD (F,) in 1/Hz on the band's grid from the data outside `avoid_gps_s`.

    Segments as long as the analysis, Tukey window of 0.4 s roll-off, half overlapping.  Scatters more the shorter the
    file; raises ValueError when fewer than two segments fit on either side.
    """
    n = round(band.duration_s * strain.rate_hz)
    window = tukey(n, 0.8 / band.duration_s)
    spectra = []
    for start, end in ((strain.start_gps_s, avoid_gps_s[0]), (avoid_gps_s[1], strain.end_gps_s)):
        length = int((end - start) * strain.rate_hz)
        if length >= n:
            values = strain.segment(start, length / strain.rate_hz)
            f, p = welch(values, strain.rate_hz, window, n, n // 2, average="median")
            spectra.append((p, length // (n // 2) - 1))
    count = sum(k for _, k in spectra)
    if count < 2:
        raise ValueError(
            f"{strain.detector} strain is too short for an off-source PSD: {count} segments of "
            f"{band.duration_s:g} s outside GPS {avoid_gps_s[0]:.1f} to {avoid_gps_s[1]:.1f}; "
            f"give a PSD file or a longer strain file"
        )
    psd = sum(p * k for p, k in spectra) / count
    return np.interp(band.frequencies_hz, f, psd)


def whitened_spectrum(
    strain: Strain, band: Band, factor: np.ndarray, start_gps_s: float, reference_gps_s: float
) -> np.ndarray:
    """Whitened data (F,) of one segment on the band's grid, with time zero at the reference.

    factor (F,): `Whitening.factor` of the detector.  Tukey window with 0.4 s roll-off; Fourier transform times the
    sampling interval (strain per Hz), as bilby.
    """
    values = strain.segment(start_gps_s, band.duration_s)
    n = len(values)
    if strain.rate_hz < 2 * band.f_max_hz:
        raise ValueError(
            f"{strain.detector} is sampled at {strain.rate_hz:g} Hz, too slowly for f_max {band.f_max_hz:g} Hz"
        )
    spectrum = np.fft.rfft(values * tukey(n, 0.8 / band.duration_s)) / strain.rate_hz
    grid = band.frequencies_hz
    spectrum = spectrum[np.round(grid * band.duration_s).astype(int)]
    return spectrum * np.exp(2j * np.pi * grid * (reference_gps_s - start_gps_s)) * factor
