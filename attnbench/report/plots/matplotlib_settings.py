"""matplotlib as the plots need it: its own defaults, quiet, and whether it is there at all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from attnbench import printable
from attnbench.report.plots.svg import FONT


def unavailable() -> str:
    """Why no plot can be drawn here and what to do, one sentence; empty where matplotlib can be imported."""
    try:
        with quiet():
            import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "matplotlib":
            return "No plots: matplotlib is not installed (pip install matplotlib)."
        return f"No plots: matplotlib cannot be imported: {printable.message(str(exc))}"
    except Exception as exc:  # a build for another numpy, a broken matplotlibrc
        return f"No plots: matplotlib cannot be imported: {printable.message(f'{type(exc).__name__}: {exc}')}"
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing on stderr: neither of a folder that cannot be written, nor of a glyph that the font lacks."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@contextmanager
def settings() -> Iterator[None]:
    """matplotlib's defaults and what plots need beside them, whatever the user has set; theirs come back afterwards."""
    with quiet():
        import matplotlib as mpl

        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(
                {
                    "svg.fonttype": "none",  # text as text
                    "svg.hashsalt": "attnbench",
                    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same widths everywhere
                    "font.size": FONT,
                    "text.parse_math": False,  # `$` in a name is a dollar
                    "text.usetex": False,
                    "path.simplify": False,
                    "savefig.dpi": 72,
                    "figure.dpi": 72,
                }
            )
            yield
