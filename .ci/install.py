"""Install this checkout into the environment of the Python that runs this: with uv, or with pip where uv cannot.

    .venv/bin/python .ci/install.py '.[all]'

uv takes a fifth of the time. It is installed into the environment, too, and gets the settings that pip has here.
"""

import ast
import os
import subprocess
import sys

PIP = [sys.executable, "-m", "pip"]
# Only what is imported needs to be compiled, at the first import.
PIP_INSTALL = [*PIP, "install", "--quiet", "--no-compile"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
VARIABLES = {  # of uv, and what separates several values, by setting of pip
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", ""),
}


def environment_of_uv(settings: str) -> dict[str, str]:
    """Return the environment variables for uv; settings: lines of `pip config list`."""
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # pip's: the best version of all indexes
    for line in settings.splitlines():
        key, _, value = line.partition("=")
        name, separator = VARIABLES.get(key.rpartition(".")[2], ("", ""))
        if name:  # variables of pip come first and win
            variables.setdefault(name, separator.join(ast.literal_eval(value).split()))
    return {**variables, **os.environ}


def install(requirement: str) -> None:
    settings = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True)
    commands = ([*PIP_INSTALL, "uv"], [*UV, "--quiet", "--editable", requirement])
    environment = environment_of_uv(settings.stdout)
    if all(subprocess.run(command, env=environment).returncode == 0 for command in commands):
        return
    print("uv cannot install it; pip does, which takes longer", file=sys.stderr)
    sys.exit(subprocess.run([*PIP_INSTALL, "--editable", requirement]).returncode)


if __name__ == "__main__":
    install(sys.argv[1])
