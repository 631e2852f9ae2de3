"""The hash of callback objects, a part of the run's id."""

import subprocess
import sys

import pytest

SCRIPT = """
from gptexp.config.callbacks import digest_objects

class Base:
    limit = 3

class Watch(Base):
    # a comment
    def __init__(self, every=2, names=("a", "b")):
        self.every, self.names, self.other = every, names, object()

    def on_train_start(self, trainer, module):
        if trainer in {"loss", "step", "time", "norm"}:
            print([name for name in self.names if len(name) > 1])

    @property
    def state(self):
        return {"every": self.every}

print(digest_objects([Watch()]))
"""


def digest(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def original():
    return digest(SCRIPT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a comment", "# another comment"),
        ("class Base", "X = 1\n\nclass Base"),
        ("print(digest", "Y = 1\nprint(digest"),
    ],
)
def test_it_stays_with_lines_that_do_nothing_for_the_callback(before, after, original):
    assert digest(SCRIPT.replace(before, after)) == original


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("limit = 3", "limit = 4"),
        ("Watch()", "Watch(every=3)"),
        ("Watch()", "Watch(names=['a'])"),
        ("Watch()", "Watch(), Watch()"),
        ("len(name) > 1", "len(name) > 2"),
        ('"norm"', '"gradient"'),
        ("self.every}", "self.every + 1}"),
        ("on_train_start", "on_train_end"),
    ],
)
def test_it_changes_with_code_and_arguments(before, after, original):
    assert digest(SCRIPT.replace(before, after)) != original
