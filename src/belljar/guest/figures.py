"""Figures, pictures and charts of the libraries that would open a window for them.

What: ``plt.show()``, ``Figure.show()`` and their kin make artifacts; figures that are still open
at the end of a run do so, too, and are closed, as notebooks do it.  Because: there is no screen
inside, and programs are written for one.  Then: nothing happens until a library is imported, and
what is replaced then are the functions that show.
"""

from __future__ import annotations

import io

from . import artifacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .artifacts import Shown
    from .imports import Imports

_PNG = b"\x89PNG\r\n\x1a\n"
_SHOWN = "_belljar_shown"  # an attribute of a figure: what it looked like when it was shown
_pyplot: Any = None


def watch(imports: Imports, after_code: list[Callable[[], None]]) -> None:
    """In the zygote: be told of the libraries.  ``after_code`` is called at the end of a run."""

    def pyplot(module: Any) -> None:
        global _pyplot
        _pyplot = module
        module.show = _like(module.show, _show_all)
        after_code.append(take_open_figures)

    imports.after("matplotlib", _draw_into_memory)
    imports.after("matplotlib.figure", _watch_figures)
    imports.after("matplotlib.pyplot", pyplot)
    imports.after("PIL.Image", _watch_pictures)
    imports.after("plotly.basedatatypes", _watch_plotly)
    imports.after("altair", _watch_altair)


def _like(real: Any, function: Any) -> Any:
    """Let a function look like the one that it stands in for."""
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(function, name, getattr(real, name, None))
    return function


# --- Matplotlib ------------------------------------------------------------------------------


def _draw_into_memory(matplotlib: Any) -> None:
    """Agg, where nothing else was asked for: looking for a screen costs imports and denials."""
    settings: Any = dict  # as a dict: asking its own way would decide on a backend
    chosen = settings.get(matplotlib.rcParams, "backend")
    if chosen is getattr(matplotlib.rcsetup, "_auto_backend_sentinel", None):
        matplotlib.use("agg")


def _watch_figures(module: Any) -> None:
    artifacts.special["matplotlib.figure", "FigureBase"] = _drawn

    def show(self: Any, warn: bool = True) -> None:
        _take(self)
        if _pyplot is not None:
            _pyplot.close(self)

    module.Figure.show = _like(module.Figure.show, show)


def _show_all(*_args: Any, block: bool | None = None) -> None:
    if block is not False:  # who does not wait (pause does not) goes on drawing
        take_open_figures()


def take_open_figures() -> None:
    """Make artifacts of the figures that are open, and close them."""
    pyplot = _pyplot
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        try:
            _take(figure)
        except MemoryError:
            raise
        except Exception as exception:
            artifacts.complain(f"figure {number} could not be drawn", exception)
        finally:
            pyplot.close(figure)


def _take(figure: Any) -> None:
    shown = _drawn(figure, again=False)
    if shown is not None:
        artifacts.show(*shown)


def _drawn(figure: Any, again: bool) -> Shown | None:
    """A figure as PNG; None for an empty one, or one that was shown as it is now."""
    if not (figure.axes or figure.lines or figure.texts):
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    data = buffer.getvalue()
    looks = hash(data)
    if not again and getattr(figure, _SHOWN, None) == looks:
        return None
    setattr(figure, _SHOWN, looks)
    size: dict[str, int] = {}
    if data[:8] == _PNG:
        at = {"width": 16, "height": 20}
        size = {name: int.from_bytes(data[n : n + 4], "big") for name, n in at.items()}
    number = getattr(figure, "number", None)
    label = getattr(figure, "get_label", str)()
    name = label or ("figure" if number is None else f"figure-{number}")
    return {"image/png": data, "text/plain": repr(figure)}, size, name


# --- others ----------------------------------------------------------------------------------


def _watch_pictures(module: Any) -> None:
    """Pillow: ``image.show()`` would start a viewer."""

    def show(self: Any, title: str | None = None) -> None:
        artifacts.display(self, name=title or "")

    module.Image.show = _like(module.Image.show, show)


def _watch_plotly(module: Any) -> None:
    """Plotly: shows itself in a browser, or through IPython."""

    def drawn(figure: Any, _again: bool) -> Shown:
        chart = figure.to_json()
        return (
            {"application/vnd.plotly.v1+json": chart, "text/plain": "Plotly figure"},
            {},
            "plotly",
        )

    def show(self: Any, *_args: Any, **_options: Any) -> None:
        artifacts.display(self)

    artifacts.special["plotly.basedatatypes", "BaseFigure"] = drawn
    module.BaseFigure.show = _like(module.BaseFigure.show, show)


def _watch_altair(module: Any) -> None:
    """Altair: Vega-Lite as data, not as a page that loads scripts from elsewhere."""
    try:
        module.renderers.enable("mimetype")
    except Exception as exception:
        # Another version of it, which shows itself in its own way.
        del exception
