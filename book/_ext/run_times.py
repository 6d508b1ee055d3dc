"""A role that says how long a notebook took when it was last executed.

`` {run-time}`01_setup` `` becomes the seconds that MyST-NB noted for that notebook, which
lies beside the page; `` {run-time}`all` `` becomes their sum.
"""

from docutils import nodes
from myst_nb.ext.execution_tables import METADATA_KEY
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxRole

NOT_EXECUTED = "not executed"


class run_time(nodes.Inline, nodes.Element):  # noqa: N801 (docutils' nodes are like that)
    """A place for a time, which is known when all notebooks have been read."""


class RunTimeRole(SphinxRole):
    """Leave a place, and have MyST-NB write the page anew whenever a time changes."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Sphinx calls this for every use of the role."""
        NbMetadataCollector.set_doc_data(self.env, self.env.docname, METADATA_KEY, True)
        return [run_time(notebook=self.text)], []


class FillInRunTimes(SphinxPostTransform):
    """Put the times in their places."""

    default_priority = 8

    def run(self, **_kwargs: object) -> None:
        """Sphinx calls this for every page that it writes."""
        folder = self.env.docname.rpartition("/")[0]
        seconds = {
            docname.removeprefix(f"{folder}/"): data["exec_data"]["runtime"]
            for docname, data in NbMetadataCollector.get_doc_data(self.env).items()
            if data.get("exec_data")
        }
        for place in list(self.document.findall(run_time)):
            name = place["notebook"]
            time = sum(seconds.values()) if name == "all" else seconds.get(name)
            place.replace_self(nodes.Text(f"{time:.0f} s" if time else NOT_EXECUTED))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.add_node(run_time)
    app.add_role("run-time", RunTimeRole())
    app.add_post_transform(FillInRunTimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
