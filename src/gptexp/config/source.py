"""Source code as data: find modules without importing them, and hash what they do."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")}
# Modules that do not count as other people's: gptexp is hashed by itself, and its libraries are not hashed.
EXCLUDED_MODULES = {"__main__", "gptexp", "lightning", "torch", "torchmetrics", "transformers"}


def find_module(name: str) -> Path | None:
    """Return the file of a module, or the folder of a namespace package, without importing it; None: there is none.

    `importlib.util.find_spec` would import the packages that the module is in.
    """
    top, *inner = name.split(".")
    if name == "__main__":  # a script, or a session without a file
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file) if file else None
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # a module without a spec, such as a notebook's
        return None
    for number, _ in enumerate(inner, 2):
        if spec is None or spec.submodule_search_locations is None:
            return None
        path = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(".".join(name.split(".")[:number]), path)
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        return Path(spec.origin)
    return Path(next(iter(spec.submodule_search_locations or []), "")) or None


def top_folder(name: str) -> Path | None:
    """Return the folder from which the top module of a dotted name is imported; None: there is no such module."""
    file = find_module(name.split(".")[0])
    if file is None:
        return None
    return file.parent.parent if file.name == "__init__.py" else file.parent


@cache
def source_fingerprint(*places: str) -> str:
    """Return a hash of what the source in these files and folders of gptexp does.

    Comments, docstrings and layout do not count.
    """
    files = {
        file for place in places for file in [*(PACKAGE / place).rglob("*.py"), PACKAGE / place]
    }
    return _fingerprint(PACKAGE, {file for file in files if file.is_file()}, _own_source)


def outside_fingerprint(modules: Iterable[str]) -> str:
    """Return a hash of what the source of other people's modules does; "" where all modules are ours.

    The whole package that a module is in counts, and so do the modules beside it that it imports.
    """
    tops = sorted({module.split(".")[0] for module in modules} - EXCLUDED_MODULES)
    return _digest(" ".join(_outside_fingerprint(top) for top in tops)) if tops else ""


def normalized_source(path: Path) -> str:
    """Return the source of a file without comments, docstrings and layout."""
    text = path.read_text("utf8", errors="replace")
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a template, for instance
        return text
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]
    return ast.unparse(tree)


@cache  # the code of a process stays the one that it has imported
def _outside_fingerprint(top: str) -> str:
    folder = top_folder(top)
    if folder is None:
        return top
    files: set[Path] = set()
    waiting, seen = [top], {top}
    while waiting:
        name = waiting.pop()
        candidates = [folder / f"{name}.py", *(folder / name).rglob("*.py")]
        own = {file for file in candidates if file.is_file()}
        files |= own
        if folder in INSTALLED:  # beside it lies everything that is installed
            break
        for imported in {module for file in own for module in _imports(file)}:
            if imported not in seen and imported not in EXCLUDED_MODULES:
                seen.add(imported)
                waiting.append(imported)
    return _fingerprint(folder, files)


def _imports(file: Path) -> Iterator[str]:
    """Yield the top modules that a file imports."""
    try:
        tree = ast.parse(file.read_text("utf8", errors="replace"))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


_own_source = cache(normalized_source)  # parsing all files takes half a second


def _fingerprint(
    folder: Path, files: set[Path], read: Callable[[Path], str] = normalized_source
) -> str:
    return _digest("".join(f"{file.relative_to(folder)}\n{read(file)}\n" for file in sorted(files)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
