"""WebDataset's tar archives: members with one name are a record."""

import io
import json
import tarfile

import pytest

from gptexp.config import schema
from gptexp.data.corpora.records import known_extension, read_records
from gptexp.errors import UserError

MEMBERS = {
    "shard/0001.txt": "a river",
    "shard/0001.json": json.dumps({"url": "x", "text": "of the object", "meta": {"lang": "en"}}),
    "shard/0001.jpg": b"\xff\xd8\xff",
    "shard/0002.txt": "été",
    "._0002.txt": b"\0\5",
    "shard/0003.b/0002.txt": "a bird",
    "shard/0004.caption.txt": "two extensions",
}


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("shard")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def read(path, *names):
    config = schema.FilesConfig(path=str(path))
    return list(read_records(path, known_extension(path), config, names))


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
def test_members_with_one_name_are_a_record(name, mode, own_folder):
    write_tar(own_folder / name, MEMBERS, mode)
    places, records = zip(*read(own_folder / name, "caption.txt"), strict=True)
    assert [record["__key__"] for record in records] == [
        "shard/0001",
        "shard/0002",
        "shard/0003.b/0002",
        "shard/0004",
    ]
    assert records[0]["txt"] == records[0]["text"] == "a river"
    assert records[0]["json"]["text"] == "of the object"
    assert records[0]["meta"] == {"lang": "en"}
    assert "jpg" not in records[0]
    assert records[1]["text"] == "été"
    assert records[3]["caption.txt"] == "two extensions"
    assert places[1] == f"{own_folder / name}, shard/0002"


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("1.json", "{", r"a\.tar, 1\.json: not JSON"),
        ("1.txt", b"\xff", r"a\.tar, 1\.txt: not utf-8 text"),
    ],
)
def test_a_member_that_is_no_text_is_named(member, content, message, own_folder):
    write_tar(own_folder / "a.tar", {member: content})
    with pytest.raises(UserError, match=message):
        read(own_folder / "a.tar")


def test_an_archive_that_is_cut_off_is_named(own_folder):
    write_tar(own_folder / "a.tar", {"1.txt": "a river " * 900})
    (own_folder / "a.tar").write_bytes((own_folder / "a.tar").read_bytes()[:3000])
    with pytest.raises(
        UserError, match=r"a\.tar: not a complete tar archive|a\.tar: cannot be read"
    ):
        read(own_folder / "a.tar")
    (own_folder / "b.tar").write_bytes(b"no archive" * 90)
    with pytest.raises(UserError, match=r"b\.tar: not a complete tar archive"):
        read(own_folder / "b.tar")
