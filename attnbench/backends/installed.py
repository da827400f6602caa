"""Modules of other packages, found and read without importing them."""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path


def first_module(*modules: str) -> str | None:
    """The first of these modules that can be found, none of which is imported; None where none can."""
    return next((module for module in modules if _spec(module) is not None), None)


def module_text(module: str) -> str | None:
    """The source of a module of one file, read without importing it; None where it cannot be read."""
    spec = _spec(module)
    if spec is None or not spec.origin:
        return None
    try:
        return Path(spec.origin).read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError):
        return None


def package_text(module: str, file: str = "__init__.py") -> str | None:
    """The text of a file of a package, read without importing it; None where it cannot be read."""
    for folder in package_folders(module):
        try:
            return Path(folder, file).read_text(encoding="utf8")
        except (OSError, UnicodeDecodeError):
            continue
    return None


def package_folders(module: str) -> list[str]:
    """The folders of a package, found without importing it; none where it is not installed."""
    spec = _spec(module)
    return list(spec.submodule_search_locations or ()) if spec else []


#: What may put names into a module that do not stand in its text.
_MAKERS = ("globals", "locals", "vars", "setattr", "exec", "eval")
_NAMESPACES = ("__getattr__", "__dict__", "modules")


def makes_names(text: str) -> bool:
    """Whether the text of a module can bind names that it does not contain; true for one that cannot be parsed."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return any(
        (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))
        or (isinstance(node, ast.Name) and node.id in (*_MAKERS, *_NAMESPACES))
        or (isinstance(node, ast.Attribute) and node.attr in _NAMESPACES)
        or (isinstance(node, ast.FunctionDef) and node.name == "__getattr__")
        or (isinstance(node, ast.alias) and (node.asname or node.name) in (*_MAKERS, *_NAMESPACES))
        for node in nodes
    )


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent package is missing, or broken: the import will say how
        return None
