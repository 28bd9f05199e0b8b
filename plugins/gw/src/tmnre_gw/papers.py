"""BibTeX of the papers the recipes rest on."""

GW150914 = """@article{GW150914,
  author = {{LIGO Scientific Collaboration and Virgo Collaboration}},
  title = {Observation of Gravitational Waves from a Binary Black Hole Merger},
  journal = {Phys. Rev. Lett.}, volume = {116}, pages = {061102}, year = {2016}, eprint = {1602.03837}
}"""

PEREGRINE = """@article{Bhardwaj2023Peregrine,
  author = {Bhardwaj, Uddipta and Alvey, James and Miller, Benjamin Kurt and Nissanke, Samaya and Weniger, Christoph},
  title = {Sequential simulation-based inference for gravitational wave signals},
  journal = {Phys. Rev. D}, volume = {108}, pages = {042004}, year = {2023}, eprint = {2304.02035}
}"""

PHENOM_PV2 = """@article{Hannam2014,
  author = {Hannam, Mark and others},
  title = {Simple Model of Complete Precessing Black-Hole-Binary Gravitational Waveforms},
  journal = {Phys. Rev. Lett.}, volume = {113}, pages = {151101}, year = {2014}, eprint = {1308.3271}
}"""

PHENOM_XAS = """@article{Pratten2020,
  author = {Pratten, Geraint and others},
  title = {Setting the cornerstone for a family of models for gravitational waves from compact binaries},
  journal = {Phys. Rev. D}, volume = {102}, pages = {064001}, year = {2020}, eprint = {2001.11412}
}"""

BILBY = """@article{Ashton2019Bilby,
  author = {Ashton, Gregory and others},
  title = {BILBY: A User-friendly Bayesian Inference Library for Gravitational-wave Astronomy},
  journal = {Astrophys. J. Suppl.}, volume = {241}, pages = {27}, year = {2019}, eprint = {1811.02042}
}"""

GWOSC = """@article{GWOSC2021,
  author = {{LIGO Scientific Collaboration and Virgo Collaboration}},
  title = {Open data from the first and second observing runs of Advanced LIGO and Advanced Virgo},
  journal = {SoftwareX}, volume = {13}, pages = {100658}, year = {2021}, eprint = {1912.11716}
}"""

PHENOM_XPHM = """@article{Pratten2021XPHM,
  author = {Pratten, Geraint and others},
  title = {Computationally efficient models for the dominant and subdominant harmonic modes of precessing binary
           black holes},
  journal = {Phys. Rev. D}, volume = {103}, pages = {104056}, year = {2021}, eprint = {2004.06503}
}"""

RIPPLE = """@article{Edwards2024Ripple,
  author = {Edwards, Thomas D. P. and Wong, Kaze W. K. and Lam, Kelvin K. H. and Coogan, Adam and Foreman-Mackey, Daniel
            and Isi, Maximiliano and Zimmerman, Aaron},
  title = {Differentiable and hardware-accelerated waveforms for gravitational wave data analysis},
  journal = {Phys. Rev. D}, volume = {110}, pages = {064028}, year = {2024}, eprint = {2302.05329}
}"""

OVERLAPPING = """@article{Alvey2023Overlapping,
  author = {Alvey, James and Bhardwaj, Uddipta and Nissanke, Samaya and Weniger, Christoph},
  title = {What to do when things get crowded? Scalable joint analysis of overlapping gravitational wave signals},
  year = {2023}, eprint = {2308.06318}
}"""
