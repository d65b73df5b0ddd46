"""Validate the docstring of every public name, by the checks that pyproject.toml asks for."""

import importlib
import inspect
import pkgutil
import sys
import types

from numpydoc.hooks.validate_docstrings import parse_config
from numpydoc.validate import validate

import mvgauss


def public_modules():
    """Yield the package and the modules in it whose names have no underscore."""
    yield mvgauss
    for module in pkgutil.walk_packages(mvgauss.__path__, "mvgauss."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield importlib.import_module(module.name)


def public_names(module):
    """Yield the functions and classes that a module makes public, and the methods of the classes."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield f"{module.__name__}.{name}"
        elif inspect.isclass(value):
            yield f"{module.__name__}.{name}"
            for base in value.__mro__:
                for member, kind in vars(base).items():
                    if (
                        base.__module__.startswith("mvgauss")
                        and not member.startswith("_")
                        and isinstance(kind, property | classmethod | staticmethod | types.FunctionType)
                    ):
                        yield f"{module.__name__}.{name}.{member}"


checks = parse_config(".")["checks"]
names = sorted({name for module in public_modules() for name in public_names(module)})
errors = [f"{n}: {code} {text}" for n in names for code, text in validate(n)["errors"] if code in checks]
print("\n".join(errors) or f"numpydoc: {len(names)} public docstrings are valid")
sys.exit(bool(errors))
