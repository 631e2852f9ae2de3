from collections import Counter

import pyarrow
import pytest

from gptexp.config import schema
from gptexp.data.corpora.debian import Debian
from gptexp.data.corpora.summaries import MAX_SOURCE_CHARACTERS
from gptexp.data.splits import assign_splits
from gptexp.errors import UserError

PAIR = ("source", "target")


def description(i):
    return f"This tool{i} finds books{i} of shelf{i}. " + " ".join(f"w{i}x{j}" for j in range(20))


def stanza(package, synopsis, *paragraphs):
    body = "\n .\n".join(f" {paragraph}" for paragraph in paragraphs)
    return f"Package: {package}\nDescription-md5: 0\nDescription-en: {synopsis}\n{body}\n\n"


def write_list(folder, text, name="archive_i18n_Translation-en"):
    with pyarrow.CompressedOutputStream(str(folder / f"{name}.lz4"), "lz4") as stream:
        stream.write(text.encode())


def read(folder, fields=PAIR, **settings):
    fractions = {"val_fraction": 0.1, "test_fraction": 0.1}
    config = schema.DebianConfig(path=str(folder), **{**fractions, **settings})
    return list(Debian(config, fields, folder / "cache"))


def test_a_pair_is_name_and_description_and_the_synopsis(tmp_path):
    paragraphs = (f"{description(0)}\n  * one\n    item\n  * two", "The second.\n Of two lines.")
    write_list(tmp_path, stanza("shelf", "tool0 finds books0", *paragraphs, "long " * 200))
    (pair,) = read(tmp_path)
    items = "* one item\n* two"
    assert pair.fields["target"] == "tool0 finds books0"
    start = f"shelf\n{description(0)}\n{items}\n\nThe second. Of two lines.\n\nlong long "
    assert pair.fields["source"].startswith(start)
    assert len(pair.fields["source"]) <= len("shelf\n") + MAX_SOURCE_CHARACTERS
    (document,) = read(tmp_path, ("text",))
    assert document.fields["text"].startswith("shelf: tool0 finds books0\n\nThis tool0")


def test_paragraphs_of_many_packages_and_descriptions_of_others_are_dropped(tmp_path):
    shared = (
        "This package is part of a very large family of packages that have a paragraph in common."
    )
    stanzas = [stanza(f"a{i}", f"tool{i} finds books{i}", description(i), shared) for i in range(4)]
    stanzas += [
        stanza("b", "other tool0 and books0", description(0)),  # the same text
        stanza("c", "tool1 finds books1", description(5)),  # the same synopsis
        stanza("d", "tool6 finds books6", shared, "Too short."),
        stanza("e", "grows green vegetables and fruit", description(7)),
        stanza("f", "tool8", description(8)),
        stanza("a0", "tool9 finds books9", description(9)),  # described before
    ]
    write_list(tmp_path, "".join(stanzas))
    examples = read(tmp_path, val_fraction=0, test_fraction=0)
    assert [example.fields["source"] for example in examples if not example.left_out] == [
        f"a{i}\n{description(i)}" for i in range(4)
    ]
    assert {example.fields["target"]: example.left_out for example in examples[4:]} == {
        "grows green vegetables and fruit": "less than half of the summary's words stand in the source",
        "tool8": "the synopsis has not 3 to 14 words",
    }


def test_packages_of_one_source_share_a_split_and_the_next_release_keeps_it(tmp_path):
    numbers = range(0, 200, 2)
    write_list(
        tmp_path,
        "".join(stanza(f"p{i}", f"tool{i} finds books{i}", description(i)) for i in range(200)),
    )
    packages = "".join(f"Package: p{i + 1}\nSource: p{i} (1.0)\n\n" for i in numbers)
    (tmp_path / "archive_main_Packages").write_text(packages)
    splits = {example.fields["target"]: example.split for example in read(tmp_path)}
    assert Counter(splits.values()).keys() == {"train", "val", "test"}
    for i in numbers:
        assert splits[f"tool{i} finds books{i}"] == splits[f"tool{i + 1} finds books{i + 1}"]
    write_list(
        tmp_path,
        "".join(stanza(f"p{i}", f"tool{i} finds books{i}", description(i)) for i in range(9, 99)),
    )
    later = {example.fields["target"]: example.split for example in read(tmp_path)}
    assert later.items() <= splits.items()


@pytest.mark.parametrize("fields", [PAIR, ("text",)])
def test_packages_of_one_source_stay_together_where_the_hash_leaves_a_split_empty(fields, tmp_path):
    stanzas = (stanza(f"p{i}", f"tool{i} finds books{i}", description(i)) for i in range(48))
    write_list(tmp_path, "".join(stanzas))
    packages = "".join(f"Package: p{i}\nSource: s{i % 12}\n\n" for i in range(48))
    (tmp_path / "archive_main_Packages").write_text(packages)
    examples = read(tmp_path, fields, val_fraction=0.001, test_fraction=0.001)
    assert {example.split for example in examples} == {"train"}
    rows = [("\n".join(e.fields.values()), e.group_key, e.split) for e in examples]
    assigned = assign_splits(rows, "exact", {"val": 0.2, "test": 0.2}).tolist()
    assert set(assigned) == {0, 1, 2}
    assert all(assigned[i] == assigned[i % 12] for i in range(48))


def test_a_near_duplicate_of_a_held_out_description_is_not_trained_on(tmp_path):
    text = " ".join(f"word{j}" for j in range(60))
    write_list(
        tmp_path,
        "".join(stanza(f"p{i}", f"the word{i} number", f"Item {i}. {text}") for i in range(60)),
    )
    splits = {example.fields["target"]: example.split for example in read(tmp_path, split="exact")}
    assert splits.pop("the word0 number") == "train"
    assert len(splits) == 59
    assert [example.split for example in read(tmp_path)] in (["test"], ["val"])


def test_unsupported_test_pairs_are_a_split_of_their_own(tmp_path):
    write_list(tmp_path, stanza("shelf", "grows green vegetables", description(0)))
    (pair,) = read(tmp_path, test_fraction=1.0, val_fraction=0)
    assert (pair.split, pair.left_out) == ("unsupported", "")


def test_a_folder_without_lists_is_answered_with_the_command_that_fetches_them(tmp_path):
    (tmp_path / "archive_i18n_Translation-de").write_text("")
    with pytest.raises(UserError, match=r"no list of package descriptions .*Languages=en update"):
        read(tmp_path)


def test_a_damaged_list_is_named(tmp_path):
    write_list(tmp_path, "".join(stanza(f"p{i}", "it is", description(i)) for i in range(999)))
    file = tmp_path / "archive_i18n_Translation-en.lz4"
    file.write_bytes(file.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"Translation-en\.lz4: not a complete LZ4 file"):
        read(tmp_path)
