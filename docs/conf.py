"""Configure the documentation's site: `make docs` builds it into build/docs."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for site_pages.py
sys.path.insert(0, str(HERE.parent / "src"))

import site_pages  # noqa: E402
from docutils import nodes  # noqa: E402

project = "tiedlm"
author = "the tiedlm contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]  # the list of pages for readers of the repository
html_theme = "furo"
html_title = "tiedlm"
html_show_sphinx = False
html_copy_source = False
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
smartquotes = False  # they would make one dash of the two before a flag

html_math_renderer = "plain"  # MathJax would be loaded from another machine

# TeX -> plain text, for the few equations of docstrings.
PLAIN = (
    (r"_\{y\^\*\}", "[y*]"), (r"y\^\*", "y*"),
    (r"\\\\\s*", "\n"), (r"\\mathrm\{(\w+)\}", r"\1"), (r"\\tilde y", "ỹ"), (r"\\hat y", "ŷ"),
    (r"\^\\top", "ᵀ"), (r"\\tau", "τ"), (r"\\alpha", "α"), (r"\\gamma", "γ"), (r"\\log", "log"),
    (r"\\[,;]|\\!", ""), (r"\\\|", " ‖ "), (r"\\quad", "   "), (r"\{([^{}]*)\}", r"\1"),
    (r" *& *", "  "),
)  # fmt: skip

# A file of the repository that is no page of the site is named, not linked.
OUTSIDE = re.compile(r"\[([^]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def name_files(app, name, source):
    """Replace links to files outside docs/ by the files' names, and to notebooks by downloads."""

    def instead(link):
        if link[2].endswith(".ipynb"):
            return f"{{download}}`{link[1]} <../{link[2]}>`"
        return f"{link[1]} (`{link[2]}`)"

    source[0] = OUTSIDE.sub(instead, source[0])


def plain(equation):
    """Return an equation in TeX as plain text."""
    for pattern, instead in PLAIN:
        equation = re.sub(pattern, instead, equation)
    return "\n".join(line.strip() for line in equation.splitlines())


def block_math(self, node):
    """Write an equation that stands alone."""
    self.body.append(f'<div class="highlight"><pre>{self.encode(plain(node.astext()))}</pre></div>')
    raise nodes.SkipNode


def inline_math(self, node):
    """Write an equation within a sentence."""
    self.body.append(f"<em>{self.encode(plain(node.astext()))}</em>")
    raise nodes.SkipNode


def setup(app):
    """Make the generated pages of the reference before the site is built."""
    app.add_html_math_renderer("plain", (inline_math, None), (block_math, None))
    app.connect("builder-inited", lambda _: site_pages.write(HERE / "reference"))
    app.connect("source-read", name_files)
