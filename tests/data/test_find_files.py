from pathlib import PurePath

import pytest

from gptexp.config.schema import FilesConfig
from gptexp.data.corpora.find_files import check_paths, find_files, is_hidden
from gptexp.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder, files):
    return [str(file.relative_to(folder)) for file in files]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    touch(
        tmp_path,
        "b.txt",
        "sub/a.txt",
        "._b.txt",
        ".ipynb_checkpoints/b-checkpoint.txt",
        "sub/.venv/lib/LICENSE.md",
        "env/pyvenv.cfg",
        "env/lib/README.md",
        "conda/conda-meta/history",
        "conda/lib/LICENSE.txt",
        "__MACOSX/b.txt",
        "node_modules/x/README.md",
        "Thumbs.db",
        "~$b.txt",
    )
    assert names(tmp_path, find_files(str(tmp_path), "data.path")) == ["b.txt", "sub/a.txt"]
    pattern = find_files(f"{tmp_path}/**/*.txt", "data.path")
    assert names(tmp_path, pattern) == ["b.txt", "sub/a.txt"]


def test_a_hidden_name_above_the_folder_hides_nothing(tmp_path):
    folder = tmp_path / ".cache" / "texts"
    touch(folder, "a.txt")
    assert names(folder, find_files(str(folder), "data.path")) == ["a.txt"]
    assert names(folder, find_files(str(folder / "*.txt"), "data.path")) == ["a.txt"]
    assert not is_hidden(PurePath("../a.txt"))


@pytest.mark.parametrize("name", ["a[1].txt", "what?.txt", "all*.txt", "x [new]/b.txt"])
def test_signs_of_patterns_may_be_in_names(name, tmp_path):
    touch(tmp_path, name, "a1.txt")
    assert names(tmp_path, find_files(str(tmp_path / name), "data.path")) == [name]
    if "/" in name:
        assert names(tmp_path, find_files(f"{tmp_path}/x [new]/*.txt", "data.path")) == [name]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("*.md", "no file matches this pattern"),
        ("$HOME/a.txt", r"A shell replaces \$HOME in double quotes, not in single ones"),
        ("nothing.txt", r"no such file or folder\.$"),
        ("a.tx", "no such file or folder. Did you mean '.*a.txt'"),
        ("saved", "written by save_to_disk. Read it with data=hub data.name="),
    ],
)
def test_what_is_not_there_is_named(path, message, tmp_path):
    touch(tmp_path, "a.txt", "saved/state.json", "saved/data.arrow")
    with pytest.raises(UserError, match=message):
        find_files(str(tmp_path / path), "data.path")


def test_paths_of_settings_are_checked_before_they_are_read(tmp_path):
    touch(tmp_path, "a.txt", "b.en", "b.de")
    check_paths(FilesConfig(path=str(tmp_path / "*.txt"), val_path=str(tmp_path / "a.txt")))
    check_paths(FilesConfig(path=[str(tmp_path / "b.en"), str(tmp_path / "b.de")]))
    with pytest.raises(UserError, match=r"c\.de: no such file"):
        check_paths(FilesConfig(path=[str(tmp_path / "b.en"), str(tmp_path / "c.de")]))
    with pytest.raises(UserError, match=r"data\.val_path=.*no file matches"):
        check_paths(FilesConfig(path=str(tmp_path), val_path=str(tmp_path / "*.md")))
