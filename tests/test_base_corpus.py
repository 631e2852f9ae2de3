"""examples/base, the corpus of base: from tiny packages of a local folder, without a network."""

import gzip
import json
import os
import random
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fetch
import pytest
from conftest import WORDS
from copying import CopyingTexts
from dictionaries import read_foldoc, read_gcide, read_wordnet
from documents import CODE, FIRST_LINE, QUOTES, held_out_texts, make_documents
from extract import read_code, read_json, remove_docstrings
from fetch import MAIN_LISTS, Fetcher, MissingPackageError, debian_licence, find_main_list
from held_out import HeldOutTexts, docstring_split
from markup import Section, read_html, read_man, read_pod, read_rst, read_xml
from pages import SKIPPED_FILES, man_summary, read_pages
from records import RecordMaker

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "base"
SENTENCE = (
    "This is the first paragraph of the manual, and it says what the program does with a file."
)
SECOND = (
    "The second paragraph is also a sentence of prose, which the reader of the manual will want."
)


def sentence(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def docstring(split: str, seed: int, first: str = "") -> str:
    """Return a docstring of a summary and a paragraph that belongs to a split."""
    rng = random.Random(seed)
    while True:
        lines = [sentence(rng) for _ in range(8)]
        text = f"{first or sentence(rng, 6)}\n\n" + "\n".join(lines)
        if docstring_split(text) == split:
            return text


def near_duplicate(text: str, first: str) -> str:
    """Return the docstring with another first line and another word below it; it is trained on by its own hash."""
    words = text.partition("\n\n")[2].split(" ")
    for place in range(len(words)):
        near = f"{first}\n\n{' '.join([*words[:place], 'meadow', *words[place + 1 :]])}"
        if docstring_split(near) == "train":
            return near
    raise AssertionError("no near-duplicate belongs to the train split")


def module(*docstrings: str) -> str:
    """Return the source of a module with a class for each docstring; its code is too short for a document."""
    bodies = [text.replace("\n", "\n    ") for text in docstrings]
    return "\n".join(f'class C{n}:\n    """{body}\n    """' for n, body in enumerate(bodies))


def write_wheel(folder: Path, name: str, source: str) -> None:
    info = f"{name}-1.5.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", source)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\nLicense-Expression: MIT\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def build(data: Path, packages: Path, wheels: Path) -> str:
    command = [
        sys.executable,
        str(EXAMPLE),
        str(data),
        "--packages",
        str(packages),
        "--processes",
        "1",
    ]
    # pip reads nothing but the local folder.
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    path = {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, env=os.environ | offline | path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_records(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf8") as lines:
        return [json.loads(line) for line in lines]


def test_a_corpus_is_fetched_split_and_built_again_to_the_same_bytes(own_folder: Path) -> None:
    data, wheels = own_folder / "corpus", own_folder / "wheels"
    wheels.mkdir()
    tested, trained = docstring("test", seed=1), [docstring("train", seed) for seed in range(2, 30)]
    near_tested = near_duplicate(tested, "The meadow is wide and green.")
    near_trained = near_duplicate(trained[0], "Nobody mows this meadow.")
    write_wheel(wheels, "alpha", module(tested, *trained))
    write_wheel(
        wheels,
        "beta",
        module(near_tested, near_trained, *(docstring("train", s) for s in range(50, 60))),
    )
    packages = own_folder / "packages.yaml"
    packages.write_text("pypi: [alpha, beta, gamma]\nshares: {copying: 0}\n")

    output = build(data, packages, wheels)
    assert "pypi/gamma, MISSING" in output
    files = sorted(data.glob("*.jsonl.gz"))
    train = [
        record for file in files if file.name.startswith("train-") for record in read_records(file)
    ]
    text = "\n".join(record["text"] for record in train)
    assert all(lines.partition("\n\n")[2] in text for lines in trained)
    assert tested.partition("\n\n")[2] not in text
    assert near_tested.partition("\n\n")[2] not in text
    assert near_trained.partition("\n\n")[2] not in text
    answers = {record["answer"] for record in train if "answer" in record}
    assert answers
    assert tested.partition("\n\n")[0] not in answers

    alpha, beta = json.loads((data / "manifest.json").read_text())
    assert (alpha["package"], alpha["version"], alpha["licence"]) == ("alpha", "1.5", "MIT")
    assert (alpha["kept"], alpha["dropped"]) == (len(trained), 0)
    assert len(alpha["sha256"]) == 64
    assert (beta["kept"], beta["dropped"]) == (10, 2)
    summary = json.loads((data / "summary.json").read_text())
    assert list(summary["missing"]) == ["pypi/gamma"]
    assert summary["tokens"]["train"] > 0

    before = {file.name: read_records(file) for file in files}
    for wheel in wheels.iterdir():
        wheel.unlink()  # what was fetched is not fetched again
    build(data, packages, wheels)
    assert before == {file.name: read_records(file) for file in files}


def test_a_manual_may_not_quote_a_held_out_text() -> None:
    quoted = (
        "The reader opens the file, reads each of its lines and returns them as a list of strings."
    )
    held_out = HeldOutTexts([f"Read lines.\n\n{quoted}"])
    page = {
        "kind": "page",
        "name": "reader",
        "summary": "",
        "sections": [("Use", [quoted, SENTENCE, SECOND])],
    }
    left_out: Counter[str] = Counter()
    (document,) = make_documents(iter([page]), held_out, left_out)
    assert document["text"] == f"Use\n{SENTENCE}\n{SECOND}"
    assert left_out[QUOTES] == 1
    assert held_out.quotes(f"{quoted} It closes the file.")
    assert not held_out.quotes(
        "The reader opens the file, and nothing else of this sentence is in the quoted text."
    )


def test_a_docstring_with_the_first_line_of_a_held_out_one_is_left_out() -> None:
    held_out_line = {"kind": "docstring", "text": "Emit a :class:`Record`.\n\nMore of it."}
    line = {"kind": "docstring", "header": "emit(record)", "code": ""}
    line["text"] = f"Emit a `Record`.\n\n{SENTENCE}"
    left_out: Counter[str] = Counter()
    held_out = HeldOutTexts(held_out_texts(held_out_line))
    assert list(make_documents(iter([line]), held_out, left_out)) == []
    assert left_out[FIRST_LINE] == 1


HTML = f"""<html><head><title>No</title></head><body><nav><p>{SECOND}</p></nav>
<h1>Copy &amp; move<a href="#x">¶</a></h1><p>{SENTENCE.replace("manual", "<em>manual</em>")}</p>
<pre>{SECOND}</pre><h2>Options</h2><ul><li>short item</li><li>{SECOND}</li></ul></body></html>"""
XML = f"""<page><info><desc>{SECOND}</desc></info><title>Copy &amp; move</title><p>{SENTENCE}</p>
<section><title>Options</title><screen>{SECOND}</screen><p>{SECOND}</p></section></page>"""
MAN = f"""'\\" t
.TH COPY 1
.SH NAME
copy, move \\- copy files
.SH COPY & MOVE
{SENTENCE.replace("the program", chr(10) + ".B the program" + chr(10))}
.nf
{SECOND}
.fi
.SS Options
.TP
{SECOND}
"""
POD = f"""code();

=head1 Copy & move

{SENTENCE.replace("the program", "B<the program>")}

    {SECOND}

=head2 Options

{SECOND}

=cut

{SENTENCE}
"""
RST = f"""Copy & move
===========

{SENTENCE.replace("the program", ":ref:`the program <prog>`")}

.. note:: {SECOND}

Example::

    {SECOND}

Options
-------

{SECOND}
"""


@pytest.mark.parametrize(
    ("read", "page"),
    [(read_html, HTML), (read_xml, XML), (read_man, MAN), (read_pod, POD), (read_rst, RST)],
    ids=["html", "xml", "man", "pod", "rst"],
)
def test_prose_is_read_without_markup_code_and_menus(
    read: Callable[[str], list[Section]], page: str
) -> None:
    sections = [Section(title.capitalize(), paragraphs) for title, paragraphs in read(page)]
    assert sections == [Section("Copy & move", [SENTENCE]), Section("Options", [SECOND])]


def test_a_man_page_has_a_summary() -> None:
    assert man_summary(MAN) == "copy files"


def test_of_a_manual_in_many_languages_one_form_of_the_english_pages_is_read(
    own_folder: Path,
) -> None:
    names = [
        "start.en.html",
        "start.de.html",
        "pt-BR/use.html",
        "_sources/use.rst.txt",
        "io/use.html",
    ]
    for name in [*names, "genindex.html", "logo.svg"]:
        (own_folder / name).parent.mkdir(exist_ok=True)
        (own_folder / name).write_text(f"<p>{SENTENCE}</p>")
    assert [page.name for page in read_pages(own_folder)] == ["use", "start.en"]


def test_dictionaries_are_read_as_headwords_and_senses() -> None:
    gcide = "Ab \\Ab\\, n. [L. ab\n   from.] (Naut.)\n   A part of a ship, {mast}. --Smith.\n   [1913 Webster]\n"
    assert list(read_gcide(gcide)) == [("Ab (n.)", "A part of a ship, mast.")]
    foldoc = "\nbuffer\n\n   <storage> A place {for} data that waits.\n\n   (1999-01-02)\n"
    assert list(read_foldoc(foldoc)) == [("buffer", "<storage> A place for data that waits.")]
    wordnet = "  1 licence\n00001 03 n 02 big_cell 0 cell 0 000 | the smallest unit of life  \n"
    assert list(read_wordnet(wordnet)) == [("big cell, cell (noun)", "the smallest unit of life")]


def test_json_is_read_as_sections_of_its_prose(own_folder: Path) -> None:
    content = {
        "Economy": {"text": SENTENCE, "year": "2010"},
        "Other": [{"documentation": f"<p>{SECOND}</p>"}],
    }
    (own_folder / "facts.json").write_text(json.dumps(content))
    (page,) = read_json(own_folder)
    assert (page.name, page.sections) == (
        "facts",
        [Section("Economy", [SENTENCE]), Section("0", [SECOND])],
    )


def test_code_is_read_without_docstrings_and_data_is_no_code(own_folder: Path) -> None:
    path = own_folder / "module.py"
    function = '    """Read a file."""\n    with open(path) as lines:\n        return list(lines)\n'
    path.write_text(
        "# licence\n\n" + "".join(f"\n\ndef read_{n}(path):\n{function}" for n in range(8))
    )
    code = read_code(path)
    assert code.startswith("def read_0(path):\n    with open(path)")
    assert '"""' not in code
    path.write_text("TABLE = [\n" + "    1234, 5678, 9012,\n" * 50 + "]\n")
    assert read_code(path) == ""


def test_docstrings_in_any_form_are_no_code() -> None:
    source = (
        'def first():\n    """Held out."""  # noqa\n    return 1\n\n\n'
        'def second():\n    "Held out."\n    return 2\n\n\n'
        'def third(): "Held out."; return "é"\n\n\n'
        'class Fourth:\n    """Held\n    out."""\n\n    size = "kept"\n'
    )
    assert remove_docstrings(source) == (
        "def first():\n    return 1\n\n\n"
        "def second():\n    return 2\n\n\n"
        'def third(): return "é"\n\n\n'
        'class Fourth:\n\n    size = "kept"\n'
    )


@pytest.mark.parametrize("form", ['help="{}"', "# {}", "text = '{}'  # a copy"])
def test_code_with_a_held_out_first_line_is_left_out(form: str) -> None:
    first = "Return the lines of a file."
    held_out = HeldOutTexts([f"{first}\n\n{SENTENCE}"])
    left_out: Counter[str] = Counter()
    lines = [
        {"kind": "code", "text": f"x = 1\n    {form.format(text)}"} for text in (first, SECOND)
    ]
    assert list(make_documents(iter(lines), held_out, left_out)) == lines[1:]
    assert left_out[CODE] == 1


def test_a_docstring_repeats_no_held_out_paragraph() -> None:
    held_out = HeldOutTexts([f"Read lines.\n\n{SENTENCE}"])
    line = {"kind": "docstring", "header": "read()", "code": ""}
    left_out: Counter[str] = Counter()
    lines = [line | {"text": f"Read it.\n\n{SENTENCE}\n  \n{SECOND}"}]
    (document,) = make_documents(iter(lines), held_out, left_out)
    assert document["text"] == f"Read it.\n\n{SECOND}"
    assert left_out[QUOTES] == 1


def write_lists(fetcher: Fetcher, *names: str) -> None:
    for name in names:
        (fetcher.apt_state / "lists" / name).write_text("Package: tree\n")


def test_lists_are_updated_until_both_of_main_exist(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = Fetcher(own_folder / "packages", own_folder / "apt")
    updates: list[list[str]] = []
    monkeypatch.setattr(fetch, "run_client", lambda command, _: updates.append(command))
    with pytest.raises(MissingPackageError, match="left no list"):
        fetcher.update_lists()
    with pytest.raises(MissingPackageError, match="did not end"):
        fetcher.check_lists()
    write_lists(fetcher, *(f"a_dists_x_main_{kind.replace('*', 'amd64')}" for kind in MAIN_LISTS))
    write_lists(fetcher, "a_dists_x-backports_main_i18n_Translation-en")
    fetcher.update_lists()
    fetcher.update_lists()
    fetcher.check_lists()
    assert len(updates) == 2
    found = find_main_list(own_folder / "apt" / "lists", MAIN_LISTS[1])
    assert found is not None
    assert found.name == "a_dists_x_main_i18n_Translation-en"


def test_a_package_that_cannot_be_read_is_missing(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = Fetcher(own_folder / "packages", own_folder / "apt")
    monkeypatch.setenv("PATH", str(own_folder))
    with pytest.raises(MissingPackageError, match="left-pad: npm: is not installed"):
        fetcher.fetch("npm", "left-pad")

    def leave_broken_wheel(_: str, downloads: Path) -> Path:
        (downloads / "broken.whl").write_bytes(b"no archive")
        return downloads / "broken.whl"

    fetcher.clients["pypi"] = leave_broken_wheel
    with pytest.raises(MissingPackageError, match="alpha: BadZipFile"):
        fetcher.fetch("pypi", "alpha")


def test_more_licences_than_are_listed_are_others(own_folder: Path) -> None:
    (own_folder / "usr/share/doc/tree").mkdir(parents=True)
    text = "".join(f"License: L-{number}\n" for number in range(5))
    (own_folder / "usr/share/doc/tree/copyright").write_text(text)
    assert debian_licence(own_folder, "tree") == "L-0, L-1, L-2, L-3 and others"


def test_pages_are_skipped_by_their_whole_name() -> None:
    skipped = ("search.html", "changelog.Debian.gz", "index-a.html", "LICENSE", "toc.html")
    assert all(map(SKIPPED_FILES.fullmatch, skipped))
    assert not any(
        map(SKIPPED_FILES.fullmatch, ("searching.html", "navigation.md", "newsgroups.txt"))
    )


def test_an_answer_is_asked_for_only_where_its_words_stand_in_the_text() -> None:
    maker = RecordMaker(random.Random(0))
    description = {
        "kind": "description",
        "package": "libtree",
        "paragraphs": [f"{SENTENCE} It prints trees."],
    }
    (supported,) = maker.make(description | {"synopsis": "program that prints trees"})
    assert supported[0] == "synopsis"
    assert supported[1]["answer"] == "program that prints trees"
    assert supported[1]["text"].endswith(f"\nlibtree\n{SENTENCE} It prints trees.")
    (document,) = maker.make(description | {"synopsis": "shared library for everybody"})
    assert document == (
        "descriptions",
        {"text": f"libtree: shared library for everybody\n{SENTENCE} It prints trees."},
    )


def test_answers_of_copying_texts_stand_in_their_texts() -> None:
    texts = CopyingTexts(random.Random(0))
    rng = random.Random(1)
    for _ in range(20):
        texts.learn(sentence(rng, 40) + " read_file TreeNode")
    assert texts.can_make_records
    for _ in range(300):
        record = texts.make()
        assert set(record) <= {"text", "answer"}
        words = set(record["text"].replace(",", " ").replace(";", " ").replace("?", " ").split())
        answer = record.get("answer", "").replace(",", " ").replace(";", " ").split()
        assert sum(word in words or word.strip(".:") in words for word in answer) >= 0.8 * len(
            answer
        )
