"""The steps of one package, each done once: fetch it, read its lines, make its documents."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from documents import held_out_texts, is_held_out, make_documents
from extract import (
    Line,
    read_debian_descriptions,
    read_lines,
    read_package,
    read_python,
    write_lines,
)
from fetch import Fetcher, MissingPackageError
from held_out import UNSEEN_PACKAGES, HeldOutTexts
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.corpora.pydocs import Pydocs
from gptexp.data.duplicates import minhash_signatures
from gptexp.files import sha256, short_hash

REGISTRIES = ("pypi", "npm", "debian")
DESCRIPTIONS = "descriptions"  # of all Debian packages: in the lists, not in a package


class Source(NamedTuple):
    registry: str  # environment, pypi, npm or debian
    name: str
    # Of a package of the environment:
    version: str = ""
    licence: str = ""
    folders: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return f"{self.registry}/{self.name}"


def update_lists(data: Path, sources: list[Source]) -> str:
    """Fetch Debian's lists if a source needs them; return why they are missing, or an empty string."""
    if any(source.registry == "debian" or source.name == DESCRIPTIONS for source in sources):
        try:
            Fetcher(data / "packages", data / "apt").update_lists()
        except MissingPackageError as error:
            return str(error)
    return ""


def list_sources(packages: dict[str, Any]) -> list[Source]:
    """Return the packages in the order of the corpus, those of the environment first."""
    sources: dict[str, Source] = {}
    if "environment" in packages:
        config = schema.PydocsConfig(packages=packages["environment"], unseen=[])
        for name, version, licence, folder in Pydocs(config, ("text",), Path()).sources:
            folders = sources[name].folders if name in sources else ()
            sources[name] = Source("environment", name, version, licence, (*folders, str(folder)))
    fetched = [
        Source(registry, name) for registry in REGISTRIES for name in packages.get(registry, [])
    ]
    return [*sources.values(), *(source for source in fetched if source.name not in sources)]


def prepare(data: Path, source: Source) -> str:
    """Fetch a package and write its lines, the held-out ones apart; return why it is missing, or an empty string."""
    file = lines_file(data, source)
    if file.exists():
        return ""
    fetcher = Fetcher(data / "packages", data / "apt")
    try:
        if source.name == DESCRIPTIONS:
            fetcher.check_lists()
        elif source.registry in REGISTRIES:
            fetcher.fetch(source.registry, source.name)
        lines = list(_read(data, source))
    except MissingPackageError as error:
        return str(error)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return f"{source.name}: {type(error).__name__}: {error}"
    is_unseen = source.name in UNSEEN_PACKAGES
    file.parent.mkdir(parents=True, exist_ok=True)
    write_lines(
        held_out_file(data, source), (line for line in lines if is_held_out(line, is_unseen))
    )
    # Code of unseen packages is not held out, as no task tests with it, and not trained on.
    usable = [] if is_unseen else lines
    write_lines(file, (line for line in usable if not is_held_out(line)))
    return ""


def _read(data: Path, source: Source) -> Iterator[Line]:
    if source.name == DESCRIPTIONS:
        yield from read_debian_descriptions(data / "apt" / "lists")
    elif source.registry == "environment":
        for folder in source.folders:
            yield from read_python(Path(folder))
    else:
        yield from read_package(source.registry, source.name, data / "packages" / source.file)


def held_out_key(data: Path, sources: list[Source]) -> str:
    """Return a hash of all held-out texts: documents are made again when it changes."""
    return short_hash("".join(sha256(held_out_file(data, source)) for source in sources))


def make_documents_file(data: Path, key: str, sources: list[Source], source: Source) -> Source:
    """Write the documents of a package that quote no held-out text of all `sources`, and their MinHash signatures."""
    file = documents_file(data, key, source)
    if file.exists():
        return source
    file.parent.mkdir(parents=True, exist_ok=True)
    held_out_lines = read_lines(held_out_file(data, source))
    signatures = minhash_signatures(map(text_of, held_out_lines))
    np.save(file.with_suffix(".held-out.npy"), signatures)
    left_out: Counter[str] = Counter()
    lines = read_lines(lines_file(data, source))
    documents = list(make_documents(lines, read_held_out(data, tuple(sources)), left_out))
    signatures = minhash_signatures(document["text"] for document in documents)
    np.save(file.with_suffix(".npy"), signatures)
    file.with_suffix(".json").write_text(json.dumps(left_out))
    write_lines(file, documents)
    return source


def text_of(line: Line) -> str:
    """Return the text of a held-out line, in the form that its document would have."""
    if line["kind"] == "docstring":
        return line["text"]
    return "\n".join([f"{line['package']}: {line['synopsis']}", *line["paragraphs"]])


def read_signatures(path: Path) -> NDArray[np.uint32]:
    return np.load(path)


@lru_cache(maxsize=1)
def read_held_out(data: Path, sources: tuple[Source, ...]) -> HeldOutTexts:
    """Return the held-out texts of all packages; they are read once in each process."""
    files = (held_out_file(data, source) for source in sources)
    return HeldOutTexts(
        text for file in files for line in read_lines(file) for text in held_out_texts(line)
    )


def lines_file(data: Path, source: Source) -> Path:
    return data / "lines" / f"{source.file}.gz"


def held_out_file(data: Path, source: Source) -> Path:
    return data / "lines" / f"{source.file}.held-out.gz"


def documents_file(data: Path, key: str, source: Source) -> Path:
    return data / f"documents-{key}" / f"{source.file}.gz"


def read_facts(data: Path, source: Source) -> dict[str, Any]:
    """Return what the manifest says of a package."""
    if source.registry in REGISTRIES and source.name != DESCRIPTIONS:
        return json.loads((data / "packages" / f"{source.file}.facts.json").read_text())
    facts = {"package": source.name, "registry": source.registry}
    return facts | {"version": source.version, "licence": source.licence or "each package's own"}
