"""Where data come from: files by the time they cover, text like HDF5, events by name from the cache."""

import gzip
import socket

import numpy as np
import pytest

from tmnre_gw import sources, strain

START, RATE, LENGTH = 1126259446, 4096, 8


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    monkeypatch.setenv(sources.DATA_VARIABLE, str(tmp_path))
    (tmp_path / "gw").mkdir()
    return tmp_path


def test_the_file_that_covers_the_event_is_taken(offline):
    names = ("H-H1_A-1126259446-32.hdf5", "H-H1_B-1126257414-4096.hdf5", "H-H1_C-1187008866-32.hdf5")
    for name in names:
        (offline / "gw" / name).touch()
    # the longer, for its power spectrum
    assert sources.strain_file("X", "H1", None, "", span=(1126259456.4, 1126259464.4)).name == names[1]
    assert sources.strain_file("X", "H1", None, "", span=(1187008870.0, 1187008878.0)).name == names[2]
    with pytest.raises(FileNotFoundError, match="covers GPS 1000000000.0"):
        sources.strain_file("X", "H1", None, "--strain.h1", span=(1e9, 1e9 + 8))


def test_a_trigger_that_was_asked_for_once_is_remembered(offline):
    assert sources.trigger("X", 5.0, injected=False) == 5.0
    with pytest.raises(FileNotFoundError, match="--trigger_gps_s"):
        sources.trigger("GW170814", None, injected=False)
    (offline / "cache" / "GW170814").mkdir(parents=True)
    (offline / "cache" / "GW170814" / "gps.json").write_text('{"gps_s": 1186741861.5}')
    assert sources.trigger("GW170814", None, injected=False) == 1186741861.5
    with pytest.raises(ValueError, match="GPS time of the trigger"):
        sources.trigger(None, None, injected=False)


def test_text_is_read_as_gwosc_writes_it(tmp_path):
    values = 1e-21 * np.random.default_rng(0).standard_normal(RATE * LENGTH)
    header = f"Gravitational wave strain for GW150914 for H1\nThis file has {RATE} samples per second\n"
    header += f"starting GPS {START} duration {LENGTH}"
    np.savetxt(tmp_path / "one.txt", values, header=header)
    with gzip.open(tmp_path / "one.txt.gz", "wt") as file:
        file.write((tmp_path / "one.txt").read_text())
    times = START + np.arange(len(values)) / RATE
    np.savetxt(tmp_path / "two.txt", np.stack([times, values], axis=1))
    for name in ("one.txt", "one.txt.gz", "two.txt"):
        read = strain.read_strain(tmp_path / name, "H1")
        assert (read.start_gps_s, read.rate_hz) == (START, pytest.approx(RATE))
        np.testing.assert_allclose(read.values, values)
    with pytest.raises(ValueError, match="strain of H1, but it was given for L1"):
        strain.read_strain(tmp_path / "one.txt", "L1")


def test_frames_are_read_through_gwpy(tmp_path):
    gwpy = pytest.importorskip("gwpy.timeseries")
    values = 1e-21 * np.random.default_rng(0).standard_normal(RATE * LENGTH)
    series = gwpy.TimeSeries(values, t0=START, sample_rate=RATE, name="H1:GWOSC-4KHZ_R1_STRAIN")
    path = tmp_path / f"H-H1_X-{START}-{LENGTH}.gwf"
    series.write(path, format="gwf")
    read = strain.read_strain(path, "H1", near_gps_s=START + 4.0)
    assert (read.start_gps_s, read.rate_hz) == (START, RATE)
    np.testing.assert_allclose(read.values, values)


@pytest.mark.parametrize(
    "header",
    [
        "Freq (Hz)\tLIGO_Hanford_PSD (1/Hz)\tLIGO_Livingston_PSD (1/Hz)\tVirgo_PSD (1/Hz)",
        "Freq (Hz) LIGO_Hanford_PSD (1/Hz) LIGO_Livingston_PSD (1/Hz) Virgo_PSD (1/Hz)",
        "f,H1,L1,V1",
        "frequency H1_psd L1_psd V1_psd",
        "Hz, H1 (Hanford), L1 (Livingston), V1 (Virgo)",
    ],
)
def test_columns_of_a_psd_table_are_those_that_its_header_names(header, tmp_path):
    f = np.arange(0, 600.0)
    table = np.stack([f, *(np.full(len(f), n * 1e-46) for n in (1, 2, 3))], axis=1)
    np.savetxt(tmp_path / "psd.dat", table, header=header)
    found = strain.read_psd(tmp_path / "psd.dat", ["V1", "H1"], f[20:512])
    np.testing.assert_allclose(found, [[3e-46] * 492, [1e-46] * 492], rtol=1e-12)
