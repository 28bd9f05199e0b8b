"""Where an event's files come from: given by path, found in the folder TMNRE_DATA, or downloaded from GWOSC."""

from __future__ import annotations

import importlib
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from tmnre.files import read_json, write_json, write_whole

DATA_VARIABLE = "TMNRE_DATA"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tmnre" / "gwosc"
INJECTED_GPS_S = 1126259462.4
"""where injections are put, if nowhere else: sets the orientation of the Earth"""
SHORT_S, LONG_S = 32, 4096
"""GWOSC's two lengths of files about an event; the PSD needs the long one where it is not given"""
NAMED = re.compile(r"-(\d+)-(\d+)\.(hdf5|h5|gwf|txt|txt\.gz)$")
"""GPS start and length at the end of a file's name, by the detectors' convention (T010150)"""
Span = tuple[float, float]


def trigger(event: str | None, given: float | None, *, injected: bool) -> float:
    """GPS s of the trigger: the one given, or the catalogue's of an event; remembered in the cache.

    Raises ValueError when there is neither, FileNotFoundError when the catalogue cannot be reached.
    """
    if given is not None:
        return given
    if injected:
        return INJECTED_GPS_S
    if event is None:
        raise ValueError("strain files need the GPS time of the trigger: give --trigger_gps_s, or --event by name")
    remembered = CACHE / event / "gps.json"
    if remembered.is_file():
        return float(read_json(remembered)["gps_s"])
    try:
        gps = float(_ask("datasets.event_gps", event))
    except ValueError as error:  # what the client raises for a name it does not find
        raise ValueError(f"GWOSC's catalogues have no event {event!r}: {error}") from error
    except (OSError, ImportError) as error:
        raise FileNotFoundError(
            f"no GPS time for {event}: give --trigger_gps_s; or go online, GWOSC's catalogue does not answer: {error}"
        ) from error
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_json(remembered, {"gps_s": gps})
    return gps


def strain_file(
    event: str | None, detector: str, given: str | None, option: str, *, span: Span | None = None, long: bool = False
) -> Path:
    """Path of a detector's strain that covers `span` (GPS s).

    Tried in order: the path given, a file of that detector under $TMNRE_DATA/gw, the download cache, the download (of
    4096 s instead of 32 s where `long`).  Raises FileNotFoundError that names all three ways.
    """
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"no strain file {given} for {detector} ({option})")
        return Path(given)
    local = _covering(_under_data(f"{detector[0]}-{detector}_*"), span)
    if local is not None:
        return local
    length = LONG_S if long else SHORT_S
    if event is not None:
        cached = _covering(sorted((CACHE / event).glob(f"{detector[0]}-{detector}_*-{length}.hdf5")), span)
        if cached is not None:
            return cached
    try:
        if event is None:
            raise ValueError("there is no event name to look for")
        return _download(event, detector, length)
    except (OSError, ImportError, ValueError) as error:
        folder = os.environ.get(DATA_VARIABLE)
        covering = f" that covers GPS {span[0]:.1f} to {span[1]:.1f}" if span else ""
        raise FileNotFoundError(
            f"no strain of {detector} for {event or 'these data'}: give {option} FILE (GWOSC HDF5, 4096 Hz, 32 s); or "
            f"set {DATA_VARIABLE} to a folder with gw/{detector[0]}-{detector}_*-START-LENGTH.hdf5{covering} (it is "
            f"{folder or 'not set'}); or go online, the download failed: {error}"
        ) from error


def psd_file(event: str | None, given: str | None) -> Path | None:
    """Path of the PSD table: the one given, or the catalogue's under $TMNRE_DATA/gw, or None."""
    if given is not None:
        return Path(given)
    found = _under_data(f"*{event}_PSDs.dat") if event else []
    return found[0] if found else None


def _under_data(pattern: str) -> list[Path]:
    folder = os.environ.get(DATA_VARIABLE)
    return sorted((Path(folder) / "gw").glob(pattern)) if folder else []


def _covering(paths: list[Path], span: Span | None) -> Path | None:
    """The longest of the files whose names say that they cover the span."""
    found = []
    for path in paths:
        named = NAMED.search(path.name)
        if named is None:
            continue
        start, length = int(named[1]), int(named[2])
        if span is None or (start <= span[0] and span[1] <= start + length):
            found.append((length, path))
    return max(found, key=lambda pair: (pair[0], pair[1].name))[1] if found else None


def _ask(function: str, *arguments, **options):
    """What a function "module.name" of GWOSC's own client answers.

    Raises ValueError for what it does not find, OSError where the server is silent, ImportError with the line to type
    where the client is missing.
    """
    module, name = function.split(".")
    try:
        client = importlib.import_module(f"gwosc.{module}")
    except ImportError as error:
        raise ImportError("the client is not installed: pip install 'tmnre-gw[download]'") from error
    try:
        return getattr(client, name)(*arguments, **options)
    except Exception as error:  # the client raises what its HTTP library raises, which may be a ValueError as well
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise
        raise OSError(f"GWOSC does not answer ({type(error).__name__})") from error


def _download(event: str, detector: str, length_s: int) -> Path:
    """Fetch through GWOSC's own client into the cache; a file that is there is whole."""
    what = {"detector": detector, "duration": length_s, "sample_rate": 4096, "format": "hdf5"}
    urls = _ask("locate.get_event_urls", event, **what)
    if not urls:
        raise ValueError(f"GWOSC has no {length_s} s of {detector} for {event}")
    target = CACHE / event / urls[0].rsplit("/", 1)[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(target, lambda path: urllib.request.urlretrieve(urls[0], path))
    except urllib.error.URLError as error:
        raise OSError(f"{urls[0]}: {error.reason}") from error
    return target
