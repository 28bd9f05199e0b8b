"""gw/gw150914 on files that are wrong: one line that says so, and nothing written; and on files that are right."""

import socket

import h5py
import numpy as np
import pytest

from tmnre.cli import main
from tmnre_gw import sources
from tmnre_gw.binary import default_priors

START_GPS_S, DURATION_S, RATE_HZ = 1126259447, 32, 4096
SEGMENT_S = 12.0
"""s after the start of the file, within the analysed segment"""


def _write_strain(path, detector, values, rate_hz=RATE_HZ):
    """The parts of a GWOSC file that are read."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("strain/Strain", data=values)
        data.attrs["Xstart"], data.attrs["Xspacing"] = START_GPS_S, 1 / rate_hz
        file["meta/Detector"] = detector
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gw")
    rng = np.random.default_rng(0)
    h1, l1 = 1e-21 * rng.standard_normal((2, DURATION_S * RATE_HZ))
    _write_strain(folder / "H1.hdf5", "H1", h1)
    _write_strain(folder / "L1.hdf5", "L1", l1)
    _write_strain(folder / "short.hdf5", "H1", h1[: 20 * RATE_HZ])
    _write_strain(folder / "slow.hdf5", "H1", h1[::8], rate_hz=RATE_HZ / 8)
    gap = h1.copy()
    gap[int(SEGMENT_S * RATE_HZ) :][:100] = np.nan
    _write_strain(folder / "gap.hdf5", "H1", gap)
    for name in ("words.txt", "words.hdf5", "words.gwf"):
        (folder / name).write_text("no numbers at all\n")
    np.savetxt(folder / "uneven.txt", np.stack([START_GPS_S + np.arange(100) ** 1.5, h1[:100]], axis=1), fmt="%.9g")
    (folder / "precessing.prior").write_text(
        "\n".join(f"{name} = {prior!r}" for name, prior in default_priors((10, 80), (10, 1000), 0.99, 0.1).items())
    )
    with h5py.File(folder / "empty.hdf5", "w"):
        pass
    # white noise of this amplitude
    frequencies, level = np.arange(0, 2049.0), 2 * 1e-42 / RATE_HZ
    unsorted = np.concatenate([frequencies[:100], frequencies[299:99:-1], frequencies[300:]])
    for name, grid in (("psd.txt", frequencies), ("narrow.txt", frequencies[30:200]), ("unsorted.txt", unsorted)):
        np.savetxt(folder / name, np.stack([grid, *[np.full(len(grid), level)] * 2], axis=1))
    np.savetxt(folder / "columns.txt", np.stack([frequencies, np.full(2049, level)], axis=1))
    np.savetxt(folder / "amplitudes.txt", np.stack([frequencies, *[np.full(2049, level**0.5)] * 2], axis=1))
    header = "Freq (Hz) LIGO_Hanford_PSD (1/Hz)"
    np.savetxt(folder / "named.txt", np.stack([frequencies, *[np.full(2049, level)] * 2], axis=1), header=header)
    np.savetxt(folder / "negative.txt", np.stack([frequencies, *[np.full(2049, -level)] * 2], axis=1))
    return folder


@pytest.fixture
def command(files, tmp_path, monkeypatch):
    """A command that would run, in the folder of the files, with no other files to be found and no network."""
    monkeypatch.chdir(files)
    monkeypatch.delenv(sources.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")

    def refuse(*_, **__):
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    given = ["--strain.h1", "H1.hdf5", "--strain.l1", "L1.hdf5", "--psd", "psd.txt"]
    return ["run", "gw/gw150914", "--preset", "smoke", "--out", str(tmp_path / "out"), "--workers", "1", *given]


BAD = {
    "missing strain": (["--strain.h1", "absent.hdf5"], ["absent.hdf5", "H1", "--strain.h1"]),
    "a folder for a file": (["--strain.h1", "."], ["--strain.h1"]),
    "files exchanged": (["--strain.l1", "H1.hdf5"], ["H1.hdf5 holds strain of H1", "given for L1"]),
    "no HDF5": (["--strain.h1", "words.hdf5"], ["words.hdf5 is not a GWOSC HDF5"]),
    "no numbers": (["--strain.h1", "words.txt"], ["words.txt is not a table of numbers"]),
    "text without a start": (["--strain.h1", "psd.txt"], ["psd.txt has 3 columns", "header"]),
    "times out of step": (["--strain.h1", "uneven.txt"], ["uneven.txt", "evenly"]),
    "no frame": (["--strain.h1", "words.gwf"], ["words.gwf"]),
    "HDF5 without strain": (["--strain.h1", "empty.hdf5"], ["empty.hdf5 is not a GWOSC HDF5", "strain/Strain"]),
    "NaN in the strain": (["--strain.h1", "gap.hdf5"], ["H1 strain has 100 NaN", "1126259459.000"]),
    "event outside the file": (["--trigger_gps_s", "1126259400"], ["covers GPS 1126259447", "longer file"]),
    "too little for a PSD": (["--psd=null", "--strain.h1", "short.hdf5", "--duration_s", "16"], ["H1", "too short"]),
    "missing PSD": (["--psd", "absent.txt"], ["no PSD file absent.txt"]),
    "PSD too short": (["--psd", "narrow.txt"], ["covers 30 to 199 Hz", "20 to 512 Hz"]),
    "PSD of words": (["--psd", "words.txt"], ["words.txt", "table of numbers"]),
    "PSD of bytes": (["--psd", "H1.hdf5"], ["H1.hdf5", "table of numbers"]),
    "PSD of one detector": (["--psd", "columns.txt"], ["columns.txt has 2 columns", "H1"]),
    "PSD of amplitudes": (["--psd", "amplitudes.txt"], ["about 2e-23 1/Hz", "amplitude", "squared"]),
    "PSD with one name": (["--psd", "named.txt"], ["named.txt has 3 columns", "names ['H1']"]),
    "PSD below zero": (["--psd", "negative.txt"], ["positive"]),
    "PSD out of order": (["--psd", "unsorted.txt"], ["unsorted.txt", "increase"]),
    "unknown detector": (["--detectors", "[H1, X9]"], ["unknown detector 'X9'"]),
    "another detector's file": (["--detectors", "[H1, V1]", "--strain.v1", "L1.hdf5"], ["given for V1"]),
    "detector twice": (["--detectors", "[H1, H1]"], ["distinct"]),
    "no detector": (["--detectors", "[]"], ["detector"]),
    "empty prior of masses": (["--prior.component_mass_msun", "[80, 10]"], ["80 to 10 Msun", "low < high"]),
    "empty prior of distance": (["--prior.luminosity_distance_mpc", "[900, 100]"], ["luminosity_distance", "empty"]),
    "empty prior of time": (["--prior.time_window_s", "-0.1"], ["time", "empty"]),
    "spin above one": (["--prior.max_spin", "1.5"], ["spin", "1.5"]),
    "missing prior": (["--prior.file", "absent.prior"], ["no prior file absent.prior"]),
    "prior of words": (["--prior.file", "words.txt"], ["words.txt"]),
    "too short": (["--duration_s", "2"], ["2 s is too short", "duration"]),
    "too little before the trigger": (["--duration_s", "7"], ["5 s are there for it", "duration >= 8 s"]),
    "no band": (["--f_min_hz", "600"], ["f_min < f_max"]),
    "band above Nyquist": (["--strain.h1", "slow.hdf5"], ["H1 is sampled at 512 Hz", "f_max 512 Hz"]),
    "unknown approximant": (["--approximant", "IMRPhenomPv9"], ["IMRPhenomPv9"]),
    "approximant without spins of the prior": (
        ["--approximant", "IMRPhenomXAS", "--prior.file", "precessing.prior"],
        ["chi_1", "a_1"],
    ),
    "something else of lal's": (["--approximant", "SimInspiralFD"], ["SimInspiralFD"]),
    "approximant in the time domain": (["--approximant", "SEOBNRv4"], ["SEOBNRv4"]),
    "unknown network": (["--network", "rnn"], ["'cnn', 'compressed'", "'rnn'"]),
    "schedule of two lengths": (["--schedule.steps", "[20]"], ["same length"]),
    "round counted from the start": (["--schedule.afresh", "[2]"], ["counted from the end", "[2]"]),
    "no rounds": (["--schedule.steps", "[]", "--schedule.waveforms", "[]"], ["at least one"]),
}


def _refused(capfd, tmp_path, command) -> str:
    """The one line on stderr of a command that ended with 2 and wrote nothing."""
    capfd.readouterr()
    assert main(command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tmnre: error: ")
    assert not (tmp_path / "out").exists()
    return line


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(command, capfd, tmp_path, arguments, words):
    line = _refused(capfd, tmp_path, [*command, *arguments])
    assert all(word in line for word in words), line


def test_no_files_at_all_names_the_three_ways_to_them(command, capfd, tmp_path):
    line = _refused(capfd, tmp_path, [*command, "--strain.h1=null", "--strain.l1=null"])
    assert all(way in line for way in ("--strain.h1 FILE", "TMNRE_DATA", "not set", "download failed")), line
    assert not (tmp_path / "cache").exists()


def test_files_are_found_under_the_data_folder(command, capfd, tmp_path, monkeypatch, files):
    (tmp_path / "gw").mkdir()
    (tmp_path / "gw" / "H-H1_SYNTHETIC-1126259447-32.hdf5").symlink_to(files / "H1.hdf5")
    monkeypatch.setenv(sources.DATA_VARIABLE, str(tmp_path))
    line = _refused(capfd, tmp_path, [*command, "--strain.h1=null", "--strain.l1=null"])
    assert "no strain of L1" in line and str(tmp_path) in line


def test_the_good_files_run_to_the_end(command, tmp_path):
    """The command that every case above spoils; noise without a signal."""
    assert main(command) == 0
    out = tmp_path / "out"
    assert (out / "posterior.h5").exists() and (out / "learned" / "rounds" / "01" / "DONE").exists()
    assert {"triangle.png", "rounds.png", "training.png"} <= {path.name for path in (out / "figures").iterdir()}
