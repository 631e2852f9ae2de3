import bz2
import codecs
import gzip
import lzma
import zipfile

import pytest

from gptexp.data.corpora.open_file import extension_by_name
from gptexp.data.corpora.text_lines import read_lines
from gptexp.errors import UserError


def compress(path, kind, content):
    match kind:
        case "gz":
            path.write_bytes(gzip.compress(content))
        case "bz2":
            path.write_bytes(bz2.compress(content))
        case "xz":
            path.write_bytes(lzma.compress(content))
        case "zst" | "lz4":
            import pyarrow

            codec = {"zst": "zstd"}.get(kind, kind)
            with pyarrow.CompressedOutputStream(str(path), codec) as stream:
                stream.write(content)
        case "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("__MACOSX/._a.txt", b"\x00\x05")
                archive.writestr("folder/a.txt", content)
    return path


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst", "lz4", "zip"])
def test_compressed_files_are_read_and_damaged_ones_named(kind, tmp_path):
    text = "".join(f"line {i} of {i * i}\n" for i in range(9000))
    path = compress(tmp_path / f"a.txt.{kind}", kind, text.encode())
    assert "".join(read_lines(path, "utf-8")) == text
    assert extension_by_name(path) == ".txt"
    other = tmp_path / "renamed.txt"
    other.write_bytes(path.read_bytes())
    assert "".join(read_lines(other, "utf-8")) == text
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"not a complete (gzip|bzip2|xz|Zstandard|LZ4|zip) file"):
        list(read_lines(path, "utf-8"))


def test_a_zip_file_is_what_its_only_file_is(tmp_path):
    assert extension_by_name(compress(tmp_path / "a.zip", "zip", b"x")) == ".txt"
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(UserError, match=r"this one has 2 \(a\.csv, b\.csv\)\. Unpack it"):
        extension_by_name(tmp_path / "two.zip")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be-bom"])
def test_line_ends_and_byte_order_marks_of_every_system(end, encoding, tmp_path):
    text = f"first é{end}second\u2028still{end}{end}last"
    content = text.encode(encoding.removesuffix("-bom"))
    (tmp_path / "a").write_bytes(codecs.BOM_UTF16_BE * encoding.endswith("-bom") + content)
    expected = ["first é\n", "second\u2028still\n", "\n", "last"]
    assert list(read_lines(tmp_path / "a", "utf-8")) == expected


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"one\ntwo\nIt\x92s 5 \x80\n", "utf-8", "line 3: not utf-8 text (byte 0x92"),
        (
            b"one\r\nIt\x92s 5 \x80\r\n",
            "utf-8",
            "it is: 'It’s 5 €'. If that is right, add data.encoding=cp1252",
        ),
        (b"one\rIt\x92s", "latin-1", "line 2: byte 0x92 is no character of latin-1. In cp1252"),
        (b"x" * 20000 + b"\n" + b"y" * 9000 + b"\xff\x81", "utf-8", "line 2: not utf-8"),
        (b"\x81\x8d", "utf-8", "Name its encoding with data.encoding=..., utf-16"),
        (b"one\ntw\0o\n", "utf-8", "line 2: has NUL bytes"),
        (b"text\n" + bytes(99), "utf-8", "Delete them, with tr -d"),
        ("text".encode("utf-16-le"), "utf-8", "data.encoding=utf-16-le"),
        ("text".encode("utf-16-be"), "utf-8", "data.encoding=utf-16-be"),
        ("text\nGröße\n".encode("utf-16-le"), "utf-8", "data.encoding=utf-16-le"),
        ("text\nGröße\n".encode("utf-16-be"), "utf-8", "data.encoding=utf-16-be"),
        ("öäü\nein Text\n".encode("utf-16-le"), "utf-8", "data.encoding=utf-16-le"),
        (b"text", "utf-9", "data.encoding=utf-9: Python knows no such encoding"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "utf-8", "git lfs pull"),
    ],
)
def test_what_is_no_text_in_this_encoding_is_named_with_its_line(
    content, encoding, message, tmp_path
):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        list(read_lines(tmp_path / "a.txt", encoding))
    assert message in str(error.value)
    assert str(error.value).startswith((str(tmp_path / "a.txt"), "data.encoding"))
