import pytest

from gptexp.config.cache import cache_folder
from gptexp.errors import UserError


@pytest.fixture
def home(own_folder, monkeypatch):
    monkeypatch.delenv("GPTEXP_CACHE")
    monkeypatch.setenv("HOME", str(own_folder / "a home"))
    return own_folder / "a home"


def test_the_cache_is_in_the_home_and_may_be_named(tiny, home, monkeypatch):
    assert cache_folder(tiny()) == home / ".cache" / "gptexp"
    monkeypatch.setenv("GPTEXP_CACHE", "~/named")
    assert cache_folder(tiny()) == home / "named"
    assert cache_folder(tiny("cache=other")).resolve() == home.parent / "other"


def test_a_home_that_cannot_be_written_is_no_error(tiny, home, capsys):
    home.write_text("a file")
    folder = cache_folder(tiny("outputs=runs"))
    assert (folder.is_dir(), str(folder)) == (True, "runs/.cache")
    cache_folder(tiny("outputs=runs"))
    assert capsys.readouterr().err == (
        "~/.cache/gptexp: Not a directory. Prepared data goes to runs/.cache; "
        "cache=FOLDER or GPTEXP_CACHE names another folder\n"
    )


@pytest.mark.parametrize("name", ["cache", "GPTEXP_CACHE"])
def test_a_named_cache_that_is_a_file_is_refused_by_its_name(name, tiny, home, monkeypatch):
    home.write_text("a file")
    monkeypatch.setenv("GPTEXP_CACHE", str(home))
    with pytest.raises(UserError, match=f"^{name}=.*no folder for prepared data"):
        cache_folder(tiny(*[f"cache={home}"] * (name == "cache")))


def test_a_named_cache_without_room_for_folders_is_refused(tiny):
    with pytest.raises(UserError, match=r"^cache=/proc: no folder for prepared data"):
        cache_folder(tiny("cache=/proc"))
