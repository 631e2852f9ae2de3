"""The commit and the uncommitted changes that a run records."""

import subprocess

import pytest

from gptexp.runs import environment


@pytest.fixture
def checkout(own_folder, monkeypatch):
    """A repository that holds a file of gptexp in a folder of its own, and beside it one of its user."""

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=own_folder, check=True, capture_output=True)

    package = own_folder / "gptexp"
    package.mkdir()
    file = package / "environment.py"
    for path in (file, own_folder / "secret.txt"):
        path.write_text("old\n")
    git("init")
    git("add", "secret.txt")
    git("commit", "-m", "mine")
    monkeypatch.setattr(environment, "__file__", str(file))
    monkeypatch.setattr(environment, "CHECKOUT", package)
    return git, file


def test_changes_that_are_no_utf8_are_recorded_without_those_of_the_user(checkout, own_folder):
    git, file = checkout
    git("add", ".")
    git("commit", "-m", "ours")
    file.write_bytes(b"\xe9t\xe9\n")
    (own_folder / "secret.txt").write_text("mine")
    record = environment.describe_environment()
    assert len(record["commit"]) == 40
    assert "+\ufffdt\ufffd" in record["uncommitted"]
    assert "mine" not in record["uncommitted"]


@pytest.mark.usefixtures("checkout")
def test_a_repository_that_gptexp_is_not_part_of_is_not_recorded(own_folder):
    (own_folder / "secret.txt").write_text("mine")
    record = environment.describe_environment()
    assert (record["commit"], record["uncommitted"]) == (None, None)
