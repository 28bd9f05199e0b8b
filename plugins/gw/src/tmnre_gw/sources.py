"""Where an event's files come from: given by path, found in the folder TMNRE_DATA, or downloaded from GWOSC."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from tmnre.files import write_whole

DATA_VARIABLE = "TMNRE_DATA"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tmnre" / "gwosc"


def strain_file(event: str, detector: str, given: str | None, option: str) -> Path:
    """Path of an event's 4096 Hz, 32 s GWOSC HDF5 file for one detector.

    Tried in order: the path given, a file of that detector under $TMNRE_DATA/gw, the download cache, the download.
    Raises FileNotFoundError that names all three ways.
    """
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"no strain file {given} for {detector} ({option})")
        return Path(given)
    local = _under_data(f"{detector[0]}-{detector}_*-32.hdf5")
    if local is not None:
        return local
    cached = sorted((CACHE / event).glob(f"{detector[0]}-{detector}_*-32.hdf5"))
    if cached:
        return cached[0]
    try:
        return _download(event, detector)
    except (OSError, ImportError, ValueError) as error:
        folder = os.environ.get(DATA_VARIABLE)
        raise FileNotFoundError(
            f"no strain of {detector} for {event}: give {option} FILE (GWOSC HDF5, 4096 Hz, 32 s); or set "
            f"{DATA_VARIABLE} to a folder with gw/{detector[0]}-{detector}_*-32.hdf5 (it is {folder or 'not set'}); "
            f"or go online, the download failed: {error}"
        ) from error


def psd_file(event: str, given: str | None) -> Path | None:
    """Path of the PSD table: the one given, or the catalogue's under $TMNRE_DATA/gw, or None."""
    if given is not None:
        return Path(given)
    return _under_data(f"*{event}_PSDs.dat")


def _under_data(pattern: str) -> Path | None:
    folder = os.environ.get(DATA_VARIABLE)
    found = sorted((Path(folder) / "gw").glob(pattern)) if folder else []
    return found[0] if found else None


def _download(event: str, detector: str) -> Path:
    """Fetch through GWOSC's own client into the cache; a file that is there is whole."""
    try:
        from gwosc.locate import get_event_urls
    except ImportError as error:
        raise ImportError("the client is not installed: pip install 'tmnre-gw[download]'") from error
    try:
        (url, *_) = get_event_urls(event, detector=detector, duration=32, sample_rate=4096, format="hdf5")
    except Exception as error:  # the client raises what its HTTP library raises
        raise OSError(f"GWOSC does not answer ({type(error).__name__})") from error
    target = CACHE / event / url.rsplit("/", 1)[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(target, lambda path: urllib.request.urlretrieve(url, path))
    except urllib.error.URLError as error:
        raise OSError(f"{url}: {error.reason}") from error
    return target
