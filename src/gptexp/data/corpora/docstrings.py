"""Docstrings out of source files, which are parsed and never imported, in one process a core.

Run as a script it is such a process: a JSON list of paths on stdin, a JSON list of docstrings for each on stdout.
Scripts of their own, and not multiprocessing, since that runs the caller's main module again.
"""

import ast
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gptexp.machine import available_cpus

SHORTEST = 40  # characters of a docstring that says something
CHUNK = 200  # files a process
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings_of(files: list[Path]) -> Iterator[list[str]]:
    """The docstrings of each file, in order."""

    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor(available_cpus()) as pool:
        for found in pool.map(_in_a_process, chunks):
            yield from found


def _in_a_process(files: list[Path]) -> list[list[str]]:
    command = [sys.executable, "-I", __file__]
    done = subprocess.run(
        command, input=json.dumps(list(map(str, files))), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def docstrings(path: Path) -> list[str]:
    """The docstrings of one file, cleaned as inspect.cleandoc does; [] for what does not parse."""
    try:
        source = path.read_bytes()
    except OSError:  # a link to nowhere, or not ours to read
        return []
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, KINDS)]
    return [
        text
        for text in found
        if text and len(text) >= SHORTEST and text.encode("utf8", "ignore").decode() == text
    ]


if __name__ == "__main__":
    json.dump([docstrings(Path(path)) for path in json.load(sys.stdin)], sys.stdout)
