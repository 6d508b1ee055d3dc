"""Build every page anew when what shapes all of them has changed.

Sphinx builds a page again when its text changes. Here it also does so when an extension, a
template or a style of the book changes: their digest is a setting, and a build with other
settings reads all pages again. No chapter is executed again for that.
"""

from pathlib import Path

from notebook_execution import digest
from sphinx.application import Sphinx
from sphinx.config import Config

SHAPES = (
    "book/_ext/*.py",
    "book/_templates/*",
    "book/_static/*.*",
    "book/_static/live/*.*",
    "book/live/texts.json",
)


def note_shapes(app: Sphinx, config: Config) -> None:
    """Write the digest into the settings."""
    config.appearance_digest = digest(Path(app.srcdir), SHAPES)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.add_config_value("appearance_digest", "", "env", str)
    app.connect("config-inited", note_shapes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
