"""Fetch packages by name with pip, npm and apt-get as they are configured, and unpack them without root.

Debian's lists and archives lie in a folder of their own, so that the lists of the machine stay as they are.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

UNKNOWN = "see the package"
MAX_LICENCE = 40  # characters of a licence's name
MAX_LICENCES = 4  # of a package
MAIN_LISTS = ("binary-*_Packages", "i18n_Translation-en")  # of Debian packages, and of descriptions


# Errors of an archive that is damaged, or has no metadata.
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    FileNotFoundError,
    KeyError,
    ValueError,
    subprocess.CalledProcessError,
)


class MissingPackageError(Exception):
    """The registry has no package of this name, or none for this machine."""


class Fetcher:
    """Fetches packages into `folder`/REGISTRY/NAME; a package that has its file of facts there is complete."""

    def __init__(self, folder: Path, apt_state: Path) -> None:
        self.folder, self.apt_state = folder, apt_state
        self.clients: dict[str, Callable[[str, Path], Path]] = {
            "pypi": self._from_pypi,
            "npm": self._from_npm,
            "debian": self._from_debian,
        }

    def fetch(self, registry: str, name: str) -> dict[str, Any]:
        """Return the facts of a package: registry, version, licence, sha256 and bytes of its archive.

        Raises:
            MissingPackageError: it cannot be had or read; the message has its name and the client's words.
        """
        try:
            return self._fetch(registry, name)
        except MissingPackageError as error:
            raise MissingPackageError(f"{name}: {error}") from None
        except BROKEN as error:
            raise MissingPackageError(f"{name}: {type(error).__name__}: {error}") from error

    def _fetch(self, registry: str, name: str) -> dict[str, Any]:
        target = self.folder / registry / name
        facts_file = target.with_name(f"{name}.facts.json")
        if facts_file.exists():
            return json.loads(facts_file.read_text())
        shutil.rmtree(target, ignore_errors=True)
        downloads = self.folder / registry / f"{name}.download"
        shutil.rmtree(downloads, ignore_errors=True)
        downloads.mkdir(parents=True)
        archive = self.clients[registry](name, downloads)
        unpack(archive, target)
        facts = {
            "package": name,
            "registry": registry,
            **read_facts(registry, name, archive, target),
            "bytes": archive.stat().st_size,
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        }
        shutil.rmtree(downloads)
        temporary = facts_file.with_suffix(".part")
        temporary.write_text(json.dumps(facts))
        temporary.rename(facts_file)
        return facts

    def update_lists(self) -> None:
        """Fetch Debian's lists of packages and of their English descriptions, once; one process alone may call it.

        Raises:
            MissingPackageError: apt-get fails, or a list of main is missing or empty.
        """
        lists, marker = self.apt_state / "lists", self.apt_state / "updated"
        if marker.exists():
            return
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        run_client(self._apt("apt-get", "update"), self.apt_state)
        for kind in MAIN_LISTS:
            file = find_main_list(lists, kind)
            if file is None or not file.stat().st_size:
                raise MissingPackageError(
                    f"{lists}: apt-get update left no list *_main_{kind}, or an empty one. "
                    "Check the entry of main in /etc/apt/sources.list, and repeat the command"
                )
        marker.touch()

    def check_lists(self) -> None:
        """Raise MissingPackageError where `update_lists` has not ended."""
        if not (self.apt_state / "updated").exists():
            raise MissingPackageError("Debian's lists are missing: apt-get update did not end")

    def _apt(self, *command: str) -> list[str]:
        options = [
            f"Dir::State::lists={self.apt_state / 'lists'}",
            "Acquire::Languages=en",
            "Debug::NoLocking=1",
        ]
        options.append(f"Dir::Cache={self.apt_state}")
        return [*command, *(part for option in options for part in ("-o", option))]

    def _from_debian(self, name: str, downloads: Path) -> Path:
        self.check_lists()
        run_client(self._apt("apt-get", "download", "-q", name), downloads)
        return only_file(downloads)

    def _from_pypi(self, name: str, downloads: Path) -> Path:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            name,
        ]
        run_client(command, downloads)
        return only_file(downloads)

    def _from_npm(self, name: str, downloads: Path) -> Path:
        run_client(["npm", "pack", "--silent", name], downloads)
        return only_file(downloads)


def run_client(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise MissingPackageError(f"{command[0]}: is not installed") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise MissingPackageError(
            words[-1] if words else f"{command[0]}: exit code {done.returncode}"
        )


def find_main_list(lists: Path, kind: str) -> Path | None:
    """Return the list of main of a plain suite, not of its updates, security or backports; None if there is none."""
    files = [
        path
        for path in lists.glob(f"*_main_{kind}*")
        if not re.search("-(?:updates|security|backports|proposed)", path.name)
    ]
    return min(files, default=None)


def only_file(folder: Path) -> Path:
    files = list(folder.iterdir())
    if len(files) != 1:
        raise MissingPackageError(f"the client left {len(files)} files instead of one archive")
    return files[0]


def unpack(archive: Path, target: Path) -> None:
    target.mkdir(parents=True)
    if archive.suffix == ".deb":
        run_client(["dpkg-deb", "-x", str(archive), str(target)], target)
    elif archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(target)
    else:
        with tarfile.open(archive) as file:
            file.extractall(target, filter="data")


def read_facts(registry: str, name: str, archive: Path, folder: Path) -> dict[str, str]:
    """Return the version and the licence that a package states."""
    if registry == "debian":
        version = archive.name.split("_")[1].replace("%3a", ":")
        return {"version": version, "licence": debian_licence(folder, name)}
    if registry == "npm":
        stated = json.loads((folder / "package" / "package.json").read_text())
        return {"version": stated["version"], "licence": str(stated.get("license", UNKNOWN))}
    (metadata,) = folder.glob("*.dist-info/METADATA")
    fields = HeaderParser().parsestr(metadata.read_text(encoding="utf8"))
    classifiers = [
        text for text in fields.get_all("Classifier") or [] if text.startswith("License ::")
    ]
    licences = [
        fields["License-Expression"],
        *(text.rsplit(" :: ", 1)[-1] for text in classifiers),
        fields["License"],
    ]
    stated = next((text for text in licences if text and len(text) <= MAX_LICENCE), UNKNOWN)
    return {"version": fields["Version"], "licence": stated}


def debian_licence(folder: Path, name: str) -> str:
    """Return the licences that the copyright file of a package names; behind MAX_LICENCES, "and others"."""
    file = folder / "usr/share/doc" / name / "copyright"
    if not file.is_file():  # it is in a package that this one depends on
        return UNKNOWN
    text = file.read_text(encoding="utf8", errors="replace")
    stated = re.findall(r"^License:[ \t]*(\S.*)", text, re.M) or re.findall(
        r"common-licenses/([\w.-]*\w)", text
    )
    names = [name.strip() for name in stated if len(name.strip()) <= MAX_LICENCE]
    unique = list(dict.fromkeys(names))
    listed = ", ".join(unique[:MAX_LICENCES])
    return f"{listed} and others" if len(unique) > MAX_LICENCES else listed or UNKNOWN
