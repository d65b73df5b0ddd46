"""How the documentation is built: python -m sphinx -W -b html docs docs/_build/html."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version as version_of
from itertools import accumulate
from pathlib import Path

import nbformat
from docutils import nodes
from myst_nb.core.read import read_myst_markdown_notebook

project = "mvgauss"
author = "The mvgauss developers"
project_copyright = author
release = version = version_of("mvgauss")

extensions = [
    "jupyterlite_sphinx",
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax and its fonts from the package: pages load nothing from elsewhere
]
exclude_patterns = ["_build"]

# pages: every cell is executed at each build; an error in one is an error of the build, and so is what
# a cell writes to standard error
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "error"
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widgets here, and their scripts come from a network

# the live notebook, howto/live.ipynb: Pyodide comes from where its kernel takes it, or into the site from an
# archive, JUPYTERLITE_PYODIDE_URL; the wheel is built of the checkout, or the one of MVGAUSS_WHEEL
nb_kernel_rgx_aliases = {"^python$": "python3"}  # what its kernel is called there and here
jupyterlite_bind_ipynb_suffix = False  # pages are those of myst_nb
jupyterlite_build_command_options = {  # its kernel, and no extension that happens to be installed here
    "LiteBuildConfig.ignore_sys_prefix": "True",
    "LiteBuildConfig.federated_extensions": str(
        Path(sys.prefix, "share/jupyter/labextensions/@jupyterlite/pyodide-kernel-extension")
    ),
}
jupyterlite_content_dir = "_build/live/contents"
jupyterlite_dir = str(Path(__file__).parent / "_build" / "live")

# pictures: in colours that suit light and dark pages; those of the reference are drawn in this folder
os.environ["MATPLOTLIBRC"] = str(Path(__file__).parent / "matplotlibrc")
plot_working_directory = str(Path(__file__).parent)
plot_formats = [("png", 100)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = True

# reference: from the docstrings
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "mvgauss"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_sidebars = {
    page: []
    for page in (
        *("index", "tutorial", "pictures", "gallery", "faq", "benchmarks", "testing", "changes"),
        "data/README",
    )
}
html_theme_options = {
    "logo": {"text": "mvgauss"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "navigation_with_keys": False,
    "pygments_light_style": "default",
    "pygments_dark_style": "github-dark",
}


def escape_grids(app, what, name, obj, options, lines):
    """Keep the star of shapes such as (N, C, *grid), which is no emphasis; not in literals or bold names."""
    for i, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = (re.sub(r"(?<!\*)\*grid", r"\\*grid", part) for part in parts[::2])
        lines[i] = "``".join(parts)


def leave_out_formulas(app, doctree):
    """Keep TeX out of the index of the search."""
    for kind in (nodes.math, nodes.math_block):
        for node in doctree.findall(kind):
            node["classes"].append("no-search")


def add_search(app, pagename, templatename, context, doctree):
    """Keep TeX out of what the search shows of a page."""
    if pagename == "search":
        app.add_js_file("search.js", loading_method="defer")


def serve_live(app, config):
    """Put beside the live notebook what it loads: our wheel, one that its kernel takes, and data."""
    live, data = Path(config.jupyterlite_dir), Path("data", "small.npz")
    shutil.rmtree(live, ignore_errors=True)
    (app.srcdir / ".jupyterlite.doit.db").unlink(missing_ok=True)  # what it holds to be done already
    ours = os.environ.get("MVGAUSS_WHEEL", app.srcdir.parent)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", live / "pypi", ours, "comm"]
    subprocess.run(command, check=True)
    (live / "contents" / data).parent.mkdir(parents=True)
    shutil.copy(app.srcdir / data, live / "contents" / data)
    # pages load nothing from elsewhere, and so no font for the buttons
    app.registry.css_files[:] = [file for file in app.registry.css_files if "//" not in file[0]]


#: What pip installs for what pages import: extras of the package, and other packages.
EXTRAS = {
    "dask": "dask",
    "matplotlib": "plot",
    "mvgauss.dask": "dask",
    "mvgauss.onnx": "onnx",
    "mvgauss.pictures": "pictures",
    "mvgauss.plot": "plot",
    "mvgauss.testing": "testing",
    "onnx": "onnx",
    "onnxruntime": "pictures",
    "tqdm": "progress",
}
PACKAGES = {
    "array_api_extra": "array-api-extra",
    "h5py": "h5py",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
}
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
#: Data as pages name them, from their own folder: the folder, and a file or folder in it.
DATA = re.compile(r"(?<!\w)((?:\.\./)*(?:tests/)?data/)(\w+(?:\.\w+)?)")


def imports(code):
    """Return the full names of what a program imports, and of the modules above."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {above for name in names for above in accumulate(name.split("."), "{}.{}".format)}


def notebook_of(path):
    """Return a page as a notebook, and its code; or nothing of a page without code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".md" or "```{code-cell}" not in text:
        return None, ""
    notebook = read_myst_markdown_notebook(text)
    notebook["metadata"]["kernelspec"] = KERNEL
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":  # other pages are not beside it
            cell["source"] = re.sub(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", cell["source"])
    return notebook, "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")


def download_of(path):
    """Return what a page can be downloaded as, and what pip installs for it; or nothing.

    That is the notebook, the programs beside the page that it uses, and their data: contents by name.
    """
    notebook, code = notebook_of(path)
    if notebook is None:
        return {}, ""
    beside = sorted(path.parent.glob("*.py"))
    programs = [file for file in beside if file.stem in imports(code)]
    programs += [file for file in beside if f'"{file.name}"' in code]
    texts = {f"{path.stem}.ipynb": nbformat.writes(notebook)}
    texts |= {file.name: file.read_text(encoding="utf-8") for file in programs}
    contents = {name: DATA.sub(r"data/\2", text).encode() for name, text in texts.items()}
    codes = [code, *(file.read_text(encoding="utf-8") for file in programs)]
    for folder, name in {match.groups() for code in codes for match in DATA.finditer(code)}:
        data = path.parent / folder / name
        for file in [data] if data.is_file() else filter(Path.is_file, sorted(data.rglob("*"))):
            contents[f"data/{file.relative_to(path.parent / folder).as_posix()}"] = file.read_bytes()
    names = set().union(*map(imports, codes))
    extras, others = (sorted({table[name] for name in names & set(table)}) for table in (EXTRAS, PACKAGES))
    if "pictures" in extras:  # which brings matplotlib, too
        extras = [name for name in extras if name != "plot"]
    ours = f'".[{",".join(extras)}]"' if extras else "."
    return contents, " ".join(["pip install", ours, *others])


def add_download(app, doctree):
    """Say on top of a page with code, below its first paragraph, how to get it as a notebook."""
    path = Path(app.env.doc2path(app.env.docname))
    contents, command = download_of(path)
    if not contents:
        return
    if len(contents) == 1:
        verb, name, text = "download", f"{path.stem}.ipynb", "a notebook"
    else:
        verb, name, text = "unpack", f"{path.stem}.zip", "a notebook with its files"
    line = nodes.paragraph(classes=["download"])
    line += [nodes.Text(f"To run it, {verb} "), nodes.reference("", name, refuri=name)]
    line += [nodes.Text(f", {text}, and run "), nodes.literal("", command)]
    line += nodes.Text(" in a checkout.")
    page = next(doctree.findall(nodes.section))
    introduced = isinstance(page[1], nodes.paragraph) and not page[1].astext().endswith(":")
    page.insert(2 if introduced else 1, line)


def write_downloads(app, exception):
    """Write each page with code as a notebook, in an archive with the programs and the data that it uses."""
    if exception is not None or app.builder.name != "html":
        return
    for page in app.env.found_docs:
        contents, _ = download_of(Path(app.env.doc2path(page)))
        target = app.outdir / page
        if len(contents) == 1:
            target.with_suffix(".ipynb").write_bytes(*contents.values())
        elif contents:
            with zipfile.ZipFile(target.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in contents.items():
                    archive.writestr(f"{target.name}/{name}", content)


def setup(app):
    """Tell Sphinx of the hooks; that of docstrings comes after numpydoc's."""
    app.connect("config-inited", serve_live)
    app.connect("doctree-read", add_download)
    app.connect("build-finished", write_downloads)
    app.connect("autodoc-process-docstring", escape_grids, priority=900)
    app.connect("doctree-read", leave_out_formulas)
    app.connect("html-page-context", add_search)
