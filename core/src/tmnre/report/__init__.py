"""report.html: one self-contained page of a run, at any moment of it, from the files of its directory alone.

    write(folder)      the page, whole or not at all; returns its path

The page needs no script and no network: charts are SVG in the page, figures are PNG in it.  While a run goes on the
page asks the browser to load it again now and then.  Jinja2 fills it in: it escapes whatever comes from a run's files,
and PyTorch brings it along anyway.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

from tmnre.files import write_text
from tmnre.report.contents import contents, read

REFRESH_S = 10
"""how often a browser loads the page of a run that goes on again"""


def write(folder: Path, *, live: bool = False) -> Path:
    """Write report.html of a run directory; with `live` a browser loads it again every ten seconds.

    Raises ValueError when the folder is no run directory or its record is damaged.
    """
    path = Path(folder) / "report.html"
    try:
        html = page(contents(Path(folder)), refresh_s=REFRESH_S if live else None)
    except (ValueError, OSError):
        raise
    except Exception as error:  # whatever a file of someone else's can do
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"a file of {folder} is not what a run writes ({reason}); tmnre resume mends it") from error
    write_text(path, html)
    return path


def going_on(folder: Path) -> bool:
    """Whether a run says of itself that it has neither finished nor stopped."""
    meta = read(Path(folder) / "meta.json")
    return isinstance(meta, dict) and meta.get("state", "finished") == "running"


def page(content: dict[str, Any], *, refresh_s: int | None = None) -> str:
    """HTML of a run's contents."""
    written = time.strftime("%Y-%m-%d %H:%M")
    return _template().render(content, refresh_s=refresh_s, written=written)


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from tmnre.report import words

    environment = Environment(
        loader=PackageLoader("tmnre.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "percent", "duration"):
        environment.filters[name] = getattr(words, name)
    return environment.get_template("page.html")
