"""Third-party files of the pages: their location, version, licence and hash."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vendored:
    """A file below ``static/vendor``. Browsers refuse it if its hash differs."""

    file: str
    version: str
    source: str
    licence: str
    integrity: str

    @property
    def address(self) -> str:
        return f"/static/vendor/{self.file}"


FILES = {
    "htmx": Vendored(
        file="htmx-4.0.1.min.js",
        version="4.0.1",
        source="npm: htmx.org, dist/htmx.min.js",
        licence="0BSD",
        integrity="sha384-Qp9rdC8H7EqOoX+nR0P3RPG2Noji+qdwJlGpfzwQJsfOpp3sGwIdSP9xO3+UlEhn",
    ),
    "uplot": Vendored(
        file="uPlot-1.6.32.iife.min.js",
        version="1.6.32",
        source="npm: uplot, dist/uPlot.iife.min.js",
        licence="MIT",
        integrity="sha384-Gx3t0zdBAuQOuvvmaLZj7HKEiSgWTAs+VdtNY7wt19QDPTDQjFIwAuXDj0zeN00c",
    ),
    "uplot_style": Vendored(
        file="uPlot-1.6.32.min.css",
        version="1.6.32",
        source="npm: uplot, dist/uPlot.min.css",
        licence="MIT",
        integrity="sha384-IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE",
    ),
}
