"""The page in a real browser, at the width of a telephone and of a desk, light and dark: nothing wrong with it."""

import html
import json
import re
from pathlib import Path

import pytest

AUDIT = (Path(__file__).parent / "audit.js").read_text()
SCHEME = {"dark": "0", "light": "1"}


def audited(page: str, width: int, tmp_path: Path, browser, scheme: str) -> dict:
    """What audit.js says of a page in a frame of this width; the browser's own windows do not get as narrow."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<!doctype html><meta charset="utf-8"><iframe style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(page)}"></iframe><script>addEventListener("load", () => {{ {AUDIT} }})</script>'
    )
    dom, console = browser(frame, tmp_path / "profile", f"--blink-settings=preferredColorScheme={SCHEME[scheme]}")
    found = re.search(r"<output>(.*?)</output>", dom, re.DOTALL)
    assert found, dom[:2000]
    return {**json.loads(html.unescape(found[1])), "console": console}


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])
@pytest.mark.parametrize("which", ["finished", "procedure"])
def test_nothing_is_wrong_with_the_page(which, width, scheme, tmp_path, browser, request):
    page = (request.getfixturevalue(which) / "report.html").read_text()
    found = audited(page, width, tmp_path, browser, scheme)
    assert found["wrong"] == [] and found["console"] == []
    assert found["texts"] > 100 and found["room"] == width and found["dark"] == (scheme == "dark")


def test_the_audit_sees_what_is_wrong(tmp_path, browser):
    page = """<!doctype html><html><body style="background:#fff"><h1>a</h1><h3>skips</h3><img src="data:,">
    <p style="color:#bbb">pale</p><p style="font-size:6px">tiny</p><a href="#nowhere">lost</a>
    <table><tr><td>1</td></tr></table>
    <div style="width:2000px">wide</div><svg></svg></body></html>"""
    wrong = "\n".join(audited(page, 360, tmp_path, browser, "light")["wrong"])
    for complaint in (
        "no name",
        "contrast 1.9: pale",
        "6px text",
        "link to nothing",
        "table without",
        "2",
        "skips",
        "svg",
    ):
        assert complaint in wrong
    assert "px wide in 360" in wrong
