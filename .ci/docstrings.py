"""Validate the docstring of every name in the reference, by the checks that pyproject.toml asks for.

The reference has every public name: tests hold that. Other methods of public classes serve the package.
"""

import re
import sys
from pathlib import Path

from numpydoc.hooks.validate_docstrings import parse_config
from numpydoc.validate import validate

DIRECTIVE = re.compile(r"^ *\.\. (?:currentmodule|(?:auto|py:)(\w+)):: ([\w.]+)", re.MULTILINE)


def names_of_reference():
    """Yield the names that the pages of the reference document."""
    for page in sorted(Path("docs/reference").glob("*.rst")):
        module = "mvgauss"
        for kind, name in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            if kind in ("", "module"):
                module = name
            elif kind not in ("attribute", "exception"):
                yield name if name.startswith("mvgauss") else f"{module}.{name}"


checks = parse_config(".")["checks"]
names = sorted({name for name in names_of_reference() if "__" not in name})
errors = [f"{n}: {code} {text}" for n in names for code, text in validate(n)["errors"] if code in checks]
print("\n".join(errors) or f"numpydoc: {len(names)} public docstrings are valid")
sys.exit(bool(errors))
