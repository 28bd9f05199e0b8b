"""What the recipes rest on, BibTeX."""

TESSORE_METCALF_2015 = """@article{Tessore2015,
  author = {Tessore, Nicolas and Metcalf, R. Benton},
  title = {The elliptical power law profile lens},
  journal = {Astronomy and Astrophysics}, volume = {580}, pages = {A79}, year = {2015},
  doi = {10.1051/0004-6361/201526773}, eprint = {1507.01819}
}"""

COOGAN_2020 = """@misc{Coogan2020,
  author = {Coogan, Adam and Karchev, Konstantin and Weniger, Christoph},
  title = {Targeted Likelihood-Free Inference of Dark Matter Substructure in Strongly-Lensed Galaxies},
  year = {2020}, eprint = {2010.07032}
}"""

ANAU_MONTEL_2022 = """@article{AnauMontel2022,
  author = {Anau Montel, Noemi and Coogan, Adam and Correa, Camila and Karchev, Konstantin and Weniger, Christoph},
  title = {Estimating the warm dark matter mass from strong lensing images with truncated marginal neural ratio
    estimation},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {518}, pages = {2746}, year = {2022},
  eprint = {2205.09126}
}"""

BALTZ_2009 = """@article{Baltz2009,
  author = {Baltz, Edward A. and Marshall, Phil and Oguri, Masamune},
  title = {Analytic models of plausible gravitational lens potentials},
  journal = {Journal of Cosmology and Astroparticle Physics}, volume = {01}, pages = {015}, year = {2009},
  eprint = {0705.0682}
}"""

SLACS_2008 = """@article{Bolton2008,
  author = {Bolton, Adam S. and Burles, Scott and Koopmans, Leon V. E. and Treu, Tommaso and Gavazzi, Raphael and
    Moustakas, Leonidas A. and Wayth, Randall and Schlegel, David J.},
  title = {The Sloan Lens ACS Survey. V. The Full ACS Strong-Lens Sample},
  journal = {Astrophysical Journal}, volume = {682}, pages = {964}, year = {2008}, eprint = {0805.1931}
}"""

COOLEST_2023 = """@article{Galan2023,
  author = {Galan, Aymeric and Van de Vyvere, Lyne and Gomer, Matthew R. and Vernardos, Georgios and Sluse, Dominique},
  title = {COOLEST: COde-independent Organized LEns STandard},
  journal = {Journal of Open Source Software}, volume = {8}, number = {88}, pages = {5567}, year = {2023},
  doi = {10.21105/joss.05567}
}"""

VEGETTI_2012 = """@article{Vegetti2012,
  author = {Vegetti, S. and Lagattuta, D. J. and McKean, J. P. and Auger, M. W. and Fassnacht, C. D. and
    Koopmans, L. V. E.},
  title = {Gravitational detection of a low-mass dark satellite galaxy at cosmological distance},
  journal = {Nature}, volume = {481}, pages = {341}, year = {2012}, eprint = {1201.3643}
}"""

LAGATTUTA_2012 = """@article{Lagattuta2012,
  author = {Lagattuta, D. J. and Vegetti, S. and Fassnacht, C. D. and Auger, M. W. and Koopmans, L. V. E. and
    McKean, J. P.},
  title = {SHARP - I. A high-resolution multi-band view of the infra-red Einstein ring of JVAS B1938+666},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {424}, pages = {2800}, year = {2012},
  eprint = {1206.1681}
}"""

TAJALLI_2025 = """@misc{Tajalli2025,
  author = {Tajalli, M. and Vegetti, S. and O'Riordan, C. M. and White, S. D. M. and Fassnacht, C. D. and
    Powell, D. M. and McKean, J. P. and Despali, G.},
  title = {SHARP - IX. The dense, low-mass perturbers in B1938+666 and J0946+1006: implications for cold and
    self-interacting dark matter},
  year = {2025}, eprint = {2505.07944}
}"""

LOVELL_2020 = """@article{Lovell2020,
  author = {Lovell, Mark R.},
  title = {Towards a General Parametrization of the Warm Dark Matter Halo Mass Function},
  journal = {Astrophysical Journal}, volume = {897}, pages = {147}, year = {2020}, eprint = {2003.01125}
}"""

SHETH_TORMEN_1999 = """@article{Sheth1999,
  author = {Sheth, Ravi K. and Tormen, Giuseppe},
  title = {Large-scale bias and the peak background split},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {308}, pages = {119}, year = {1999},
  eprint = {astro-ph/9901122}
}"""

EISENSTEIN_HU_1998 = """@article{Eisenstein1998,
  author = {Eisenstein, Daniel J. and Hu, Wayne},
  title = {Baryonic Features in the Matter Transfer Function},
  journal = {Astrophysical Journal}, volume = {496}, pages = {605}, year = {1998}, eprint = {astro-ph/9709112}
}"""

DUFFY_2008 = """@article{Duffy2008,
  author = {Duffy, Alan R. and Schaye, Joop and Kay, Scott T. and Dalla Vecchia, Claudio},
  title = {Dark matter halo concentrations in the Wilkinson Microwave Anisotropy Probe year 5 cosmology},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {390}, pages = {L64}, year = {2008},
  eprint = {0804.2486}
}"""

BOSE_2016 = """@article{Bose2016,
  author = {Bose, Sownak and Hellwing, Wojciech A. and Frenk, Carlos S. and Jenkins, Adrian and Lovell, Mark R. and
    Helly, John C. and Li, Baojiu},
  title = {The Copernicus Complexio: statistical properties of warm dark matter haloes},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {455}, pages = {318}, year = {2016},
  eprint = {1507.01998}
}"""
