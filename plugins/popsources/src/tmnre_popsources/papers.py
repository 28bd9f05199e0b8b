"""The papers that recipes rest on, as BibTeX."""

ANAU_MONTEL_2022 = """@misc{AnauMontel2022,
  author = {Anau Montel, Noemi and Weniger, Christoph},
  title = {Detection is truncation: studying source populations with truncated marginal neural ratio estimation},
  year = {2022}, eprint = {2211.04291}
}"""

NPTF = """@article{MishraSharma2017,
  author = {Mishra-Sharma, Siddharth and Rodd, Nicholas L. and Safdi, Benjamin R.},
  title = {NPTFit: a code package for non-Poissonian template fitting},
  journal = {AJ}, volume = {153}, pages = {253}, year = {2017}, eprint = {1612.03173}
}"""

FERMI_4FGL_DR3 = """@article{Abdollahi2022,
  author = {Abdollahi, S. and others},
  title = {Incremental Fermi Large Area Telescope fourth source catalog},
  journal = {ApJS}, volume = {260}, pages = {53}, year = {2022}, eprint = {2201.11184}
}"""

LIST_2021 = """@article{List2021,
  author = {List, Florian and Rodd, Nicholas L. and Lewis, Geraint F.},
  title = {Extracting the Galactic Center excess source-count distribution with neural nets},
  journal = {PRD}, volume = {104}, pages = {123022}, year = {2021}, eprint = {2107.09070}
}"""

LEE_2016 = """@article{Lee2016,
  author = {Lee, Samuel K. and Lisanti, Mariangela and Safdi, Benjamin R. and Slatyer, Tracy R. and Xue, Wei},
  title = {Evidence for unresolved gamma-ray point sources in the inner Galaxy},
  journal = {PRL}, volume = {116}, pages = {051103}, year = {2016}, eprint = {1506.05124}
}"""

MISHRA_SHARMA_2022 = """@article{MishraSharma2022,
  author = {Mishra-Sharma, Siddharth and Cranmer, Kyle},
  title = {Neural simulation-based inference approach for characterizing the Galactic Center gamma-ray excess},
  journal = {PRD}, volume = {105}, pages = {063017}, year = {2022}, eprint = {2110.06931}
}"""
