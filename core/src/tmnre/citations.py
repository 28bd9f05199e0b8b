"""BibTeX of what a run used: the method, the parts of it that ran, the software, and the recipe's own papers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tmnre.files import read_json

CORE: dict[str, str] = {
    "tmnre": r"""@inproceedings{Miller2021TMNRE,
  author = {Miller, Benjamin Kurt and Cole, Alex and Forr{\'e}, Patrick and Louppe, Gilles and Weniger, Christoph},
  title = {Truncated Marginal Neural Ratio Estimation},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2021}, eprint = {2107.01214}
}""",
    "nre_c": r"""@inproceedings{Miller2022NREC,
  author = {Miller, Benjamin Kurt and Weniger, Christoph and Forr{\'e}, Patrick},
  title = {Contrastive Neural Ratio Estimation},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2022}, eprint = {2210.06170}
}""",
    "nre_a": r"""@inproceedings{Hermans2020NRE,
  author = {Hermans, Joeri and Begy, Volodimir and Louppe, Gilles},
  title = {Likelihood-free {MCMC} with Amortized Approximate Ratio Estimators},
  booktitle = {International Conference on Machine Learning}, year = {2020}, eprint = {1903.04057}
}""",
    "balance": r"""@inproceedings{Delaunoy2022Balanced,
  author = {Delaunoy, Arnaud and Hermans, Joeri and Rozet, Fran{\c{c}}ois and Wehenkel, Antoine and Louppe, Gilles},
  title = {Towards Reliable Simulation-Based Inference with Balanced Neural Ratio Estimation},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2022}, eprint = {2208.13624}
}""",
    "joint": r"""@inproceedings{AnauMontel2023Autoregressive,
  author = {Anau Montel, Noemi and Alvey, James and Weniger, Christoph},
  title = {Scalable inference with Autoregressive Neural Ratio Estimation},
  year = {2023}, eprint = {2308.08597}
}""",
    "coverage": r"""@article{Hermans2022Trust,
  author = {Hermans, Joeri and Delaunoy, Arnaud and Rozet, Fran{\c{c}}ois and Wehenkel, Antoine and Begy, Volodimir
    and Louppe, Gilles},
  title = {A Trust Crisis In Simulation-Based Inference? Your Posterior Approximations Can Be Unfaithful},
  journal = {Transactions on Machine Learning Research}, year = {2022}, eprint = {2110.06581}
}""",
    "sbc": r"""@misc{Talts2018SBC,
  author = {Talts, Sean and Betancourt, Michael and Simpson, Daniel and Vehtari, Aki and Gelman, Andrew},
  title = {Validating {Bayesian} Inference Algorithms with Simulation-Based Calibration},
  year = {2018}, eprint = {1804.06788}
}""",
    "tarp": r"""@inproceedings{Lemos2023TARP,
  author = {Lemos, Pablo and Coogan, Adam and Hezaveh, Yashar and Perreault-Levasseur, Laurence},
  title = {Sampling-Based Accuracy Testing of Posterior Estimators for General Inference},
  booktitle = {International Conference on Machine Learning}, year = {2023}, eprint = {2302.03026}
}""",
    "local c2st": r"""@inproceedings{Linhart2023LC2ST,
  author = {Linhart, Julia and Gramfort, Alexandre and Rodrigues, Pedro L. C.},
  title = {{L-C2ST}: Local Diagnostics for Posterior Approximations in Simulation-Based Inference},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2023}, eprint = {2306.03580}
}""",
    "distortions": r"""@misc{AnauMontel2024Misspecification,
  author = {Anau Montel, Noemi and Alvey, James and Weniger, Christoph},
  title = {Tests for model misspecification in simulation-based inference: from local distortions to global model
    checks},
  year = {2024}, eprint = {2412.15100}
}""",
    "torch": r"""@inproceedings{Paszke2019PyTorch,
  author = {Paszke, Adam and others},
  title = {{PyTorch}: An Imperative Style, High-Performance Deep Learning Library},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2019}, eprint = {1912.01703}
}""",
}


def method() -> tuple[str, ...]:
    """What every run with default settings rests on."""
    return CORE["tmnre"], CORE["nre_c"]


def used(meta: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Papers of a run, from its meta.json and its summary.json (empty while it goes on).

    Raises ValueError where what meta.json records as papers is none.
    """
    asked = meta.get("analysis", {})
    wanted = ["tmnre", str(asked.get("loss", "nre_c"))]
    if asked.get("balance"):
        wanted.append("balance")
    if any(len(names) >= 3 for names in asked.get("marginals", ())) or any(
        len(names) >= 2 for names in asked.get("truncated") or ()
    ):
        wanted.append("joint")
    names = [str(check.get("name", "")) for check in summary.get("diagnostics", ())]
    names += ["coverage"] if summary.get("coverage") else []
    names += ["distortions"] if summary.get("goodness_of_fit") else []
    wanted += [kind for kind in ("coverage", "sbc", "tarp", "local c2st", "distortions") if _any(names, kind)]
    own = meta.get("papers", ())
    if not all(isinstance(paper, str) for paper in own):
        raise ValueError("meta.json does not record papers as BibTeX entries; it is damaged")
    return (*(CORE[key] for key in (*wanted, "torch") if key in CORE), *own)


def of_run(folder: Path) -> tuple[str, ...]:
    """Papers of a run's directory.  Raises ValueError where its record is damaged."""
    summary = folder / "summary.json"
    try:
        return used(read_json(folder / "meta.json"), read_json(summary) if summary.is_file() else {})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the record of {folder} is damaged ({error}); tmnre resume {folder} mends it") from error


def _any(names: Iterable[str], kind: str) -> bool:
    return any(name.startswith(kind) or name.startswith(f"expected {kind}") for name in names)


def entries(papers: Iterable[str]) -> list[dict[str, str]]:
    """Authors, title, year and link of BibTeX entries, for a page, each with the entry itself."""
    found = []
    for paper in papers:
        fields = {name: _plain(_field(paper, name)) for name in ("title", "year", "eprint", "doi")}
        authors = [_last_name(author) for author in _authors(_field(paper, "author"))]
        who = f"{authors[0]} et al." if len(authors) > 3 or "others" in authors else ", ".join(authors)
        link = f"https://arxiv.org/abs/{fields['eprint']}" if re.fullmatch(r"[\w.\-/]+", fields["eprint"]) else ""
        if not link and re.fullmatch(r"10\.[\w.\-/()]+", fields["doi"]):
            link = f"https://doi.org/{fields['doi']}"
        found.append({"who": who, "title": fields["title"], "year": fields["year"], "link": link, "bibtex": paper})
    return found


def _authors(field: str) -> list[str]:
    """Names between " and " that is not in braces, where a collaboration keeps its own."""
    names, depth, start = [], 0, 0
    for found in re.finditer(r"[{}]| and ", field):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if found[0] == " and " and depth == 0:
            names.append(field[start : found.start()])
            start = found.end()
    return [*names, field[start:]]


def _last_name(author: str) -> str:
    if author.startswith("{"):
        return _plain(author)
    return _plain(author.partition(",")[0] if "," in author else author.rpartition(" ")[2]).strip()


ACCENTS = {r"{\'e}": "é", r"\'e": "é", r"{\c{c}}": "ç", r"{\"o}": "ö", r"{\"u}": "ü", r"{\~n}": "ñ", r"{\'a}": "á"}


def _plain(field: str) -> str:
    """A field without braces, its accents as letters."""
    for accent, letter in ACCENTS.items():
        field = field.replace(accent, letter)
    return field.replace("{", "").replace("}", "")


def _field(paper: str, name: str) -> str:
    """A field's value without braces: balanced ones in it are looked through."""
    start = re.search(rf"\b{name}\s*=\s*\{{", paper)
    if start is None:
        quoted = re.search(rf"\b{name}\s*=\s*[\"']?([^\"',}}]+)", paper)
        return quoted[1].strip() if quoted else ""
    depth, end = 1, start.end()
    while end < len(paper) and depth:
        depth += {"{": 1, "}": -1}.get(paper[end], 0)
        end += 1
    return " ".join(paper[start.end() : end - 1].split())
