"""Read docstrings from source files, which are parsed and never imported, with one process a core.

This file is also the script of these processes: it reads a JSON list of paths from stdin, and writes a JSON list of the
docstrings of each to stdout, as [header, text, code]. multiprocessing would import the caller's main module again.
"""

import ast
import gc
import json
import subprocess
import sys
import textwrap
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

MIN_CHARACTERS = 40  # shorter docstrings say little
MAX_ARGUMENTS = 12  # that a header names
MAX_RETURN_TYPE = 40  # characters
MAX_CODE_LINES = 40
FILES_PER_PROCESS = 300
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
# Fields of a node that hold statements, in the order of ast.walk.
BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")


class Docstring(NamedTuple):
    header: str  # of what it documents: "json", "Path", "Path.open(mode, encoding) -> IO"
    text: str  # cleaned as inspect.cleandoc does
    code: str  # of a function, without the docstring; its first lines


def read_docstrings(files: list[Path]) -> Iterator[list[Docstring]]:
    """Yield the docstrings of each file, in order."""
    # Imported here, because the processes may run without gptexp on their path.
    from gptexp.machine import available_cpus

    starts = range(0, len(files), FILES_PER_PROCESS)
    chunks = [files[start : start + FILES_PER_PROCESS] for start in starts]
    with ThreadPoolExecutor(available_cpus()) as pool:
        for docstrings in pool.map(_read_in_process, chunks):
            yield from docstrings


def _read_in_process(files: list[Path]) -> list[list[Docstring]]:
    command = [sys.executable, "-I", __file__]
    done = subprocess.run(
        command, input=json.dumps(list(map(str, files))), capture_output=True, text=True, check=True
    )
    return [[Docstring(*record) for record in records] for records in json.loads(done.stdout)]


def parse_docstrings(path: Path) -> list[Docstring]:
    """Return the docstrings of one file; none if it does not parse."""
    try:
        source = path.read_bytes()
    except OSError:  # a broken link, or no permission
        return []
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    lines = source.decode("utf8", "replace").splitlines()
    docstrings = []
    for node, names in _documented_nodes(tree):
        text = ast.get_docstring(node)
        if text and len(text) >= MIN_CHARACTERS and text.encode("utf8", "ignore").decode() == text:
            docstrings.append(Docstring(_header(node, names, path), text, _code(node, lines)))
    return docstrings


def _documented_nodes(tree: ast.Module) -> Iterator[tuple[Documented, tuple[str, ...]]]:
    """Yield modules, classes and functions in the order of ast.walk, with the names of the classes around each."""
    pending: deque[tuple[ast.AST, tuple[str, ...]]] = deque([(tree, ())])
    while pending:
        node, names = pending.popleft()
        if isinstance(node, Documented):
            yield node, names
        inside = (*names, node.name) if isinstance(node, ast.ClassDef) else names
        for block in BLOCKS:  # expressions, most of a tree, document nothing
            if statements := getattr(node, block, None):
                pending.extend([(statement, inside) for statement in statements])


def _header(node: Documented, names: tuple[str, ...], path: Path) -> str:
    if isinstance(node, ast.Module):
        return path.parent.name if path.stem == "__init__" else path.stem
    name = ".".join((*names, node.name))
    if isinstance(node, ast.ClassDef):
        return name
    header = f"{name}({', '.join(_argument_names(node, is_method=bool(names)))})"
    returns = ast.unparse(node.returns) if node.returns else ""
    return f"{header} -> {returns}" if 0 < len(returns) <= MAX_RETURN_TYPE else header


def _argument_names(node: Function, is_method: bool) -> list[str]:
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if is_method and names and names[0] in ("self", "cls"):
        del names[0]
    if arguments.vararg:
        names.append(f"*{arguments.vararg.arg}")
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(f"**{arguments.kwarg.arg}")
    return names if len(names) <= MAX_ARGUMENTS else [*names[:MAX_ARGUMENTS], "..."]


def _code(node: Documented, lines: list[str]) -> str:
    """Return the first lines of a function behind its docstring."""
    if not isinstance(node, Function) or len(node.body) < 2:
        return ""
    start = node.body[1].lineno - 1
    end = min(node.end_lineno or start, start + MAX_CODE_LINES)
    return textwrap.dedent("\n".join(lines[start:end]))


if __name__ == "__main__":
    gc.disable()  # a syntax tree has no cycles, and visiting its objects takes a third of the time
    json.dump([parse_docstrings(Path(path)) for path in json.load(sys.stdin)], sys.stdout)
