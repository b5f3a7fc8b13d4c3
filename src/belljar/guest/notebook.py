"""``IPython.display``, as much of it as programs written for notebooks use to show something.

What: stands in where IPython itself is not to be had inside.  Because: such programs import
``display``, ``HTML`` and ``Image`` from there.  Then: ``get_ipython()`` is None, which tells
libraries that there is no notebook.
"""

from __future__ import annotations

from . import artifacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .imports import Imports


def stand_in(imports: Imports) -> None:
    """In the zygote: answer imports of it that find nothing else; the real one shows as we do."""
    imports.otherwise("IPython", _fill_package)
    imports.otherwise("IPython.display", _fill_display)
    imports.after("IPython.display", _show_as_we_do)


def _show_as_we_do(module: Any) -> None:
    module.display = artifacts.display


def clear_output(wait: bool = False) -> None:
    """Nothing that was shown can be taken back."""


def get_ipython() -> None:
    """There is no notebook."""


def _classes() -> tuple[type, ...]:
    """Made when they are asked for: their making is a fifth of a millisecond of each start."""

    class DisplayObject:
        """Something to be shown: text or bytes, or the path of a file that holds them."""

        _media_type = "text/plain"
        _binary = False

        def __init__(
            self,
            data: Any = None,
            url: str | None = None,
            filename: str | None = None,
            metadata: dict[str, Any] | None = None,
        ) -> None:
            if url is not None:
                raise ValueError("there is no network inside to fetch a url; give data or filename")
            self.data, self.filename, self.metadata = data, filename, metadata or {}
            if filename is not None:
                self.reload()

        def reload(self) -> None:
            """Read the file again."""
            with open(str(self.filename), "rb") as file:
                data = file.read()
            self.data = data if self._binary else data.decode("utf-8", "replace")

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
            return {self._media_type: self.data}, self.metadata

    class HTML(DisplayObject):
        _media_type = "text/html"

    class Markdown(DisplayObject):
        _media_type = "text/markdown"

    class Latex(DisplayObject):
        _media_type = "text/latex"

    class Math(Latex):
        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
            body = str(self.data).strip("$")
            return {self._media_type: rf"$\displaystyle {body}$"}, self.metadata

    class SVG(DisplayObject):
        _media_type = "image/svg+xml"

    class JSON(DisplayObject):
        _media_type = "application/json"

    class Image(DisplayObject):
        """PNG, JPEG, GIF or WebP, told by its first bytes."""

        _binary = True
        _KINDS = ((b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))

        def __init__(
            self,
            data: Any = None,
            url: str | None = None,
            filename: str | None = None,
            format: str | None = None,
            embed: bool | None = None,
            width: int | None = None,
            height: int | None = None,
            metadata: dict[str, Any] | None = None,
        ) -> None:
            if isinstance(data, str) and filename is None:
                data, filename = None, data
            super().__init__(data, url, filename, metadata)
            self.format, self.width, self.height = format, width, height
            sizes = {"width": width, "height": height}
            self.metadata.update({name: size for name, size in sizes.items() if size is not None})

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
            data: Any = self.data
            found = next((kind for head, kind in self._KINDS if data.startswith(head)), "png")
            kind = (self.format or found).lower().replace("jpg", "jpeg")
            return {f"image/{kind}": self.data}, self.metadata

    return DisplayObject, HTML, Markdown, Latex, Math, SVG, JSON, Image


def _fill_display(module: Any) -> None:
    classes = _classes()
    module.__all__ = ["clear_output", "display", *(one.__name__ for one in classes)]
    module.__doc__ = "A part of IPython.display, by belljar."
    for one in classes:
        one.__module__, one.__qualname__ = module.__name__, one.__name__
        setattr(module, one.__name__, one)
    module.display, module.clear_output = artifacts.display, clear_output


def _fill_package(module: Any) -> None:
    module.__doc__ = "A stand-in by belljar, for IPython.display."
    module.__path__ = []
    module.version_info, module.__version__ = (8, 0, 0, ""), "8.0.0"
    module.get_ipython, module.display = get_ipython, artifacts.display
