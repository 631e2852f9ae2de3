"""Read docstrings from source files, which are parsed and never imported, with one process a core.

This file is also the script of these processes: it reads a JSON list of paths from stdin, and writes a JSON list of the
docstrings of each to stdout. multiprocessing would import the caller's main module again.
"""

import ast
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIN_CHARACTERS = 40  # shorter docstrings say little
FILES_PER_PROCESS = 200
NODES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read_docstrings(files: list[Path]) -> Iterator[list[str]]:
    """Yield the docstrings of each file, in order."""
    # Imported here, because the processes may run without gptexp on their path.
    from gptexp.machine import available_cpus

    starts = range(0, len(files), FILES_PER_PROCESS)
    chunks = [files[start : start + FILES_PER_PROCESS] for start in starts]
    with ThreadPoolExecutor(available_cpus()) as pool:
        for docstrings in pool.map(_read_in_process, chunks):
            yield from docstrings


def _read_in_process(files: list[Path]) -> list[list[str]]:
    command = [sys.executable, "-I", __file__]
    done = subprocess.run(
        command, input=json.dumps(list(map(str, files))), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def parse_docstrings(path: Path) -> list[str]:
    """Return the docstrings of one file, cleaned as inspect.cleandoc does; none if it does not parse."""
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
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, NODES)]
    return [
        text
        for text in texts
        if text and len(text) >= MIN_CHARACTERS and text.encode("utf8", "ignore").decode() == text
    ]


if __name__ == "__main__":
    json.dump([parse_docstrings(Path(path)) for path in json.load(sys.stdin)], sys.stdout)
