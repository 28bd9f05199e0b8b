"""Detector data from files: GWOSC HDF5 strain, power spectral densities, windowing and whitening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.signal import welch
from scipy.signal.windows import tukey

from tmnre_gw.band import Band, Whitening


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


def read_strain(path: Path | str, detector: str) -> Strain:
    """Strain of a GWOSC HDF5 file.

    Raises FileNotFoundError, or ValueError when it is no such file or belongs to another detector.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no strain file {path} for {detector}; expected a GWOSC HDF5 file")
    try:
        with h5py.File(path) as file:
            data = file["strain/Strain"]
            found = file["meta/Detector"][()].decode()
            strain = Strain(
                found, float(data.attrs["Xstart"]), 1 / float(data.attrs["Xspacing"]), data[:].astype(float)
            )
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{path} is not a GWOSC HDF5 strain file ({error}); expected strain/Strain and meta/Detector"
        ) from error
    if found != detector:
        raise ValueError(f"{path} holds strain of {found}, but it was given for {detector}; exchange the files")
    return strain


def read_psd(path: Path | str, detectors: Sequence[str], frequencies_hz: np.ndarray) -> np.ndarray:
    """PSDs (detectors, F) in 1/Hz, interpolated to `frequencies_hz`.

    A text table: frequency in the first column, then one column a detector, in the order of the header line if that
    names the sites (the catalogue's files), else in the order of `detectors`.  Raises FileNotFoundError or
    ValueError.
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
    return np.stack([np.interp(frequencies_hz, grid, table[:, c]) for c in columns])


SITES = {"H1": "Hanford", "L1": "Livingston", "V1": "Virgo", "K1": "KAGRA"}


def _psd_columns(path: Path, detectors: Sequence[str], width: int) -> list[int]:
    with path.open() as file:
        header = file.readline()
    words = header.lstrip("# ").rstrip().split("\t")
    if header.startswith("#") and any(site.lower() in header.lower() for site in SITES.values()):
        named = {d: i for d in detectors for i, word in enumerate(words) if SITES.get(d, d).lower() in word.lower()}
        missing = [d for d in detectors if d not in named]
        if missing:
            raise ValueError(f"PSD file {path} has columns {words}, none for {missing}")
        return [named[d] for d in detectors]
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


def whitened(
    strain: Strain, band: Band, whitening: Whitening, row: int, start_gps_s: float, reference_gps_s: float
) -> np.ndarray:
    """Data of one segment in the whitened basis (P,), with time zero at the reference.

    Tukey window with 0.4 s roll-off; Fourier transform times the sampling interval (strain per Hz), as bilby.
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
    spectrum = spectrum * np.exp(2j * np.pi * grid * (reference_gps_s - start_gps_s))
    return whitening.basis[row].T @ (spectrum * whitening.factor[row])
