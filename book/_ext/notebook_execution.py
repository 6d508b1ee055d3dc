"""How the build executes the chapters: again when the package changes, and side by side.

jupyter-cache knows a notebook by its own cells. Here the cache also depends on the
package, the stored measurements and the locked versions: another digest of them is
another, empty cache. And MyST-NB executes one notebook after the other; here those that
are not cached yet are executed beforehand, one per core. One that raises stays uncached,
so that MyST-NB meets it and fails the build in its own words.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

# Everything outside a chapter that can change its outputs.
SOURCES = ("transformer/**/*.py", "transformer/results/*.json", "requirements.lock")


def digest(root: Path, patterns: Iterable[str]) -> str:
    """A digest of the names and the contents of all files that match."""
    whole = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            whole.update(path.relative_to(root).as_posix().encode())
            whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def choose_cache(app: Sphinx, config: Config) -> None:
    """Choose the cache by the digest; keep progress bars out of the pages."""
    root = Path(app.srcdir)
    config.nb_execution_cache_path = str(
        root / "_build/.jupyter_cache" / digest(root, SOURCES)
    )
    os.environ["TQDM_DISABLE"] = "1"


def execute_side_by_side(
    app: Sphinx, env: BuildEnvironment, docnames: list[str]
) -> None:
    """Execute the notebooks among `docnames` that the cache does not hold."""
    paths = [Path(env.doc2path(docname)) for docname in docnames]
    notebooks = [str(path) for path in paths if path.suffix == ".ipynb"]
    if app.config.nb_execution_mode != "cache" or not notebooks:
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    for notebook in notebooks:
        cache.add_nb_to_project(notebook)
    executor = load_executor("local-parallel", cache)
    executor.run_and_cache(
        filter_uris=notebooks, timeout=app.config.nb_execution_timeout
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.connect("config-inited", choose_cache)
    app.connect("env-before-read-docs", execute_side_by_side)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
