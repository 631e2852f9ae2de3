"""Read records from tar archives as WebDataset writes them: members with one name are the fields of a record.

    0001.txt  0001.json  0002.txt  0002.json  ...

A field is named by the extension of its member. The text of .txt is the field `text` as well, and the fields of the
object in .json are fields of the record. Members that are no text, such as .jpg, are not read. Nothing is unpacked.
"""

import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.find_files import is_hidden
from gptexp.data.corpora.open_file import explain_damage, open_bytes
from gptexp.errors import UserError

EXTENSIONS = (".tar",)
TEXTS = ("txt", "text", "md", "json", "cls")


def read_tar(file: Path, names: Collection[str]) -> Iterator[tuple[str, Record]]:
    """Yield the place and the values of each record, in the order of the archive.

    Args:
        names: the names of the fields that are read: members with such an extension are texts, too.

    Raises:
        UserError: the archive is damaged, or a member that is read is no text.
    """
    record: Record = {}
    key = None
    with explain_damage(file), open_bytes(file) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    path = PurePosixPath(member.name)
                    name, _, extension = path.name.partition(".")
                    if not member.isfile() or is_hidden(path):
                        continue
                    if (path.parent, name) != key:
                        if record:
                            yield f"{file}, {record['__key__']}", record
                        key = path.parent, name
                        record = {"__key__": str(path.parent / name)}
                    content = archive.extractfile(member)
                    if content is not None and (extension in TEXTS or extension in names):
                        _add(record, extension, content.read(), f"{file}, {member.name}")
        except tarfile.TarError as error:
            raise UserError(f"{file}: not a complete tar archive ({error})") from None
    if record:
        yield f"{file}, {record['__key__']}", record


def _add(record: Record, extension: str, content: bytes, where: str) -> None:
    """Add the content of a member to its record."""
    try:
        text = content.decode("utf-8-sig")
        if extension != "json":
            record[extension] = text
            if extension == "txt":
                record["text"] = text
            return
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if extension == "json" else "utf-8 text"
        raise UserError(f"{where}: not {kind} ({error})") from None
    record["json"] = value
    if isinstance(value, dict):
        record.update({name: item for name, item in value.items() if name not in record})
