import os
import subprocess
import sys

import pytest

from gptexp import files


def test_a_written_file_replaces_the_old_one(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    files.write_text(file, "größer")
    assert file.read_text("utf8") == "größer"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")

    def fail_halfway():
        with files.atomic_write(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path):
    file, link = tmp_path / "a.json", tmp_path / "link"
    link.symlink_to(file)
    for text in ("new", "newer"):  # the link leads to nothing at first
        files.write_text(link, text)
        assert link.is_symlink()
        assert file.read_text() == text


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_file_that_stdout_goes_to_is_continued(tmp_path):
    program = (
        "from pathlib import Path; from gptexp.files import write_text\n"
        "print('before'); write_text(Path('out'), 'text\\n'); print('after')"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\ntext\nafter\n"


def test_a_folder_appears_when_it_is_complete(tmp_path):
    folder = tmp_path / "parent" / "folder"
    with files.atomic_folder(folder) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a").write_text("a")
        assert not folder.exists()
    assert (folder / "inner" / "a").read_text() == "a"
    with files.atomic_folder(folder) as temporary:
        (temporary / "b").write_text("b")
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("a")
    with pytest.raises(RuntimeError), files.atomic_folder(folder):
        raise RuntimeError
    assert (folder / "a").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["folder", "folder[1]"])
def test_only_the_leftovers_of_a_killed_writer_are_removed(tmp_path, name):
    for process in ("12345", "v2.12345"):  # the second one writes NAME.v2
        (tmp_path / f".{name}.{process}.tmp").mkdir()
        (tmp_path / f".{name}.{process}.tmp" / "a").write_text("a")
    with files.atomic_folder(tmp_path / name) as temporary:
        assert not list(temporary.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {name, f".{name}.v2.12345.tmp"}


def test_a_cached_sha256_follows_the_file(tmp_path, monkeypatch):
    file, cache = tmp_path / "a", tmp_path / "cache"
    file.write_text("one")
    first = files.cached_sha256(file, cache)
    assert first == files.sha256(file)
    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256", None)  # the second call must not read the file
        assert files.cached_sha256(file, cache) == first
    for entry in (cache / "sha256").iterdir():  # a damaged entry is computed again
        entry.write_text(entry.read_text().replace(first, "0" * 64))
    assert files.cached_sha256(file, cache) == first
    file.write_text("other")
    assert files.cached_sha256(file, cache) == files.sha256(file) != first


@pytest.mark.parametrize("damage", [lambda text: text[:-3], lambda text: text.replace("1", "2")])
def test_changed_json_does_not_pass_its_checksum(damage):
    text = files.dumps_with_checksum({"number": 1})
    assert files.loads_checked(text) == {"number": 1}
    with pytest.raises(ValueError):
        files.loads_checked(damage(text))
