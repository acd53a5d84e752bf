"""How every plot of a report looks: kinds of models, letters and lines, and figures as SVG.

Unlearned, retrained and original models have the same colour and the same mark everywhere (Okabe and Ito's colours,
which the colour-blind can tell apart).
"""

import io
import warnings
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

__all__ = [
    "GREY",
    "ORIGINAL_STYLE",
    "RETRAINED_STYLE",
    "STYLE",
    "UNLEARNED_STYLE",
    "WIDTH",
    "Models",
    "mark",
    "single",
    "svg",
]


@dataclass(frozen=True)
class Models:
    """A kind of models and how it looks in every plot."""

    name: str
    colour: str
    marker: str


UNLEARNED_STYLE = Models("unlearned", "#0072B2", "o")
RETRAINED_STYLE = Models("retrained", "#D55E00", "s")
ORIGINAL_STYLE = Models("original", "#404040", "D")

WIDTH = 8.5  # inches of 72 points: 816 pixels on a page
GREY = "#666666"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "svg.hashsalt": "harness",  # names inside a figure are the same every time
    "text.parse_math": False,  # a dollar in the name of a class is a dollar
}


def single(height: float) -> tuple[Figure, Axes]:
    """Return a figure as wide as the page, with one pair of axes; height in inches."""
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def mark(axes: Axes, x: ArrayLike, y: ArrayLike, models: Models, *, size: float, label: str | None = None) -> None:
    """Draw a kind of models' marks, whole ones at the ends of the axes too."""
    look: dict[str, Any] = {"marker": models.marker, "color": models.colour, "markersize": size}
    axes.plot(x, y, linestyle="none", label=label, zorder=3, clip_on=False, **look)


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, its letters drawn as paths, so that it needs no fonts, and without metadata."""
    file = io.BytesIO()
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a class may be named in any script
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()
