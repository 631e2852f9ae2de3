"""data=tokens on token files of other programs: the same batches as from the texts, and what is refused."""

import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import sentence
from token_files import write_datatrove, write_llmc, write_megatron, write_numbers

from gptexp.config import schema
from gptexp.data.foreign import store as store_module
from gptexp.data.foreign.store import split_by_name
from gptexp.data.tokenizers import build_byte
from gptexp.errors import UserError
from gptexp.tasks.prepare import prepare

BYTES = build_byte(schema.ByteConfig(), [])
PRETRAIN = ("task=pretrain", "tokenizer=byte", "data=tokens")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(0)
    return [sentence(rng, 20) for _ in range(60)]


def encode(texts):
    return [[*BYTES.encode(text), BYTES.eos] for text in texts]


def join(documents):
    return [token for document in documents for token in document]


def test_files_of_nanogpt_give_the_batches_of_their_texts(tiny, own_folder, texts):
    """Its prepare.py ends each document with the end-of-text token, and writes train.bin and val.bin."""
    for split, part in (("train", texts[:50]), ("val", texts[50:])):
        lines = [json.dumps({"text": text}) for text in part]
        Path(f"{split}.jsonl").write_text("\n".join(lines))
        Path("bin").mkdir(exist_ok=True)
        write_numbers(own_folder / "bin" / f"{split}.bin", numbers=join(encode(part)))
    files = ("data=files", "data.path=train.jsonl", "data.val_path=val.jsonl", "data.split=exact")
    fractions = ("data.test_fraction=0",)
    expected = prepare(tiny("task=pretrain", "tokenizer=byte", *files, *fractions))
    data = prepare(tiny(*PRETRAIN, "data.path=bin", *fractions))
    for split, seed in (("train", 3), ("val", None)):
        ours, theirs = (x.task.layout.dataset(x.store, split, seed) for x in (data, expected))
        assert len(ours) == len(theirs)
        indices = np.arange(len(ours))
        batches = [windows.batch(indices, 1, indices) for windows in (ours, theirs)]
        assert (batches[0].tokens == batches[1].tokens).all()
        assert (batches[0].targets == batches[1].targets).all()
        assert batches[0].counts == batches[1].counts
    sizes = [x.store.meta["splits"]["val"] for x in (data, expected)]
    assert [size["bytes"] - size["lost_bytes"] for size in sizes] == [
        len("".join(texts[50:]).encode())
    ] * 2
    assert not data.store.has("test")


def test_the_characters_of_nanogpt_are_read_from_its_table(tiny, own_folder):
    text = "the river runs slow\n" * 40
    characters = {character: number for number, character in enumerate(sorted(set(text)))}
    write_numbers(own_folder / "train.bin", numbers=[characters[c] for c in text])
    (own_folder / "meta.pkl").write_bytes(pickle.dumps({"stoi": characters, "vocab_size": 15}))
    words = ("task=pretrain", "tokenizer=char", "data=tokens", f"data.path={own_folder}")
    store = prepare(tiny(*words, "data.test_fraction=0")).store
    assert store.tokenizer.decode(store.tokens("train")[:20].tolist()) == text[:20]
    assert store.meta["splits"]["val"]["bytes"] == store.meta["splits"]["val"]["tokens"]


@pytest.mark.parametrize("table", [{"a": -1, "b": 1 << 40}, {"a": 0, "b": 0}, {}])
def test_a_table_whose_numbers_are_not_those_of_its_characters_is_refused(table, tiny, own_folder):
    write_numbers(own_folder / "train.bin")
    (own_folder / "meta.pkl").write_bytes(pickle.dumps({"stoi": table}))
    with pytest.raises(UserError, match=r"meta\.pkl: not a character table .*from 0 on"):
        prepare(tiny("task=pretrain", "tokenizer=char", "data=tokens", f"data.path={own_folder}"))


def test_a_table_that_would_run_code_is_refused(tiny, own_folder):
    class Command:
        def __reduce__(self):
            return os.mkdir, ("made",)

    write_numbers(own_folder / "train.bin")
    (own_folder / "meta.pkl").write_bytes(pickle.dumps({"stoi": Command()}))
    with pytest.raises(
        UserError, match=r"not a character table of nanoGPT \(it names posix.mkdir\)"
    ):
        prepare(tiny("task=pretrain", "tokenizer=char", "data=tokens", f"data.path={own_folder}"))
    assert not Path("made").exists()


@pytest.mark.parametrize("write", [write_megatron, write_datatrove])
def test_an_end_of_text_is_read_behind_documents_that_end_without_one(
    write, tiny, own_folder, texts
):
    bare = [BYTES.encode(text) for text in texts]
    for number in (0, 1):  # two files, one after the other
        write(
            own_folder / f"{number}{'.ds' if write is write_datatrove else '.bin'}", bare[number::2]
        )
    store = prepare(tiny(*PRETRAIN, f"data.path={own_folder}", "data.test_fraction=0.2")).store
    expected = join(encode([*texts[::2], *texts[1::2]]))
    tokens = [
        token for split in ("train", "val", "test") for token in store.tokens(split)[:].tolist()
    ]
    assert tokens == expected
    train = store.tokens("train")
    starts = np.arange(0, len(train) - 40, 7)
    pieces = train.read(starts, np.full(len(starts), 40))
    assert [piece.tolist() for piece in pieces] == [
        expected[start : start + 40] for start in starts
    ]
    for split in ("train", "val", "test"):
        assert store.tokens(split)[-1:] == BYTES.eos  # no document is in two splits
    remarks = "".join(store.account.remarks)
    assert "end without an end-of-text token" in remarks
    assert f"which begin with '{texts[0][:20]}" in remarks


def test_files_of_several_programs_are_joined_in_the_order_of_their_names(tiny, own_folder, texts):
    documents = encode(texts)
    write_llmc(own_folder / "0_fineweb_train_000001.bin", numbers=join(documents[:20]))
    write_megatron(own_folder / "1_more.bin", documents[20:40])
    np.save(own_folder / "2_last.npy", np.array(join(documents[40:50]), np.int64))
    write_numbers(own_folder / "3_val.npy", numbers=join(documents[50:]))
    store = prepare(tiny(*PRETRAIN, "data.path=*.[bn]*", "data.test_fraction=0")).store
    assert store.tokens("train")[:].tolist() == join(documents[:50])
    assert store.tokens("val")[:].tolist() == join(documents[50:])
    assert store.account.summary().startswith("data: 4 of 4 files used (train: ")
    assert "in the format of llm.c and Megatron and numpy" in store.account.summary()


def test_names_of_files_and_folders_say_the_split():
    root = Path("data")
    names = {
        "train.bin": "train",
        "fineweb_val_000000.bin": "val",
        "validation/part-00.npy": "val",
        "dev_text_document.bin": "val",
        "test/00000.ds": "test",
        "evaluation.bin": "train",
        "trainval_1.bin": "train",
    }
    assert {name: split_by_name(root / name, root) for name in names} == names


def test_a_file_that_is_named_alone_is_trained_on(tiny, own_folder, texts):
    write_numbers(own_folder / "val.bin", numbers=join(encode(texts)))
    store = prepare(tiny(*PRETRAIN, "data.path=val.bin")).store
    sizes = {split: store.meta["splits"][split]["tokens"] for split in ("train", "val", "test")}
    assert sum(sizes.values()) == len(join(encode(texts)))
    assert 0.03 < sizes["val"] / sum(sizes.values()) < 0.07


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_numbers(path, "<u4"), "are if uint32. Add data.dtype=uint32"),
        (
            lambda path: write_numbers(path, numbers=[5, 6, 7, 9000]),
            r"train\.bin: token 9,000 is not in the vocabulary of the tokenizer, which has 260 tokens",
        ),
        (
            lambda path: write_megatron(path, [[5, -6, 7]], 4, "<i4"),
            "token -6 is not in the vocabulary",
        ),
        (lambda path: path.write_bytes(b""), "the token files are empty"),
    ],
)
def test_numbers_that_are_not_those_of_the_tokenizer_are_refused(write, message, tiny, own_folder):
    write(own_folder / "train.bin")
    with pytest.raises(UserError, match=message):
        prepare(tiny(*PRETRAIN, "data.path=train.bin"))


def test_files_of_which_none_is_to_be_trained_on_are_refused(tiny, own_folder):
    for split in ("val", "test"):
        write_numbers(own_folder / f"{split}.bin")
    with pytest.raises(
        UserError, match=r"they are test and val\. A file .* data\.path=.*test\.bin"
    ):
        prepare(tiny(*PRETRAIN, f"data.path={own_folder}"))


def test_arrays_of_several_types_are_one_stream(tiny, own_folder):
    for number, dtype in enumerate((np.int64, np.uint64, ">u2")):
        np.save(
            own_folder / f"{number}.npy", np.arange(100 * number, 100 * number + 60, dtype=dtype)
        )
    store = prepare(tiny(*PRETRAIN, f"data.path={own_folder}", "data.val_fraction=0")).store
    tokens = store.tokens("train")[40:80]
    assert tokens.tolist() == [*range(40, 60), *range(100, 120)]
    assert tokens.dtype == np.uint16


@pytest.mark.parametrize(("place", "size"), [(960, 40), (990, 50)])
def test_a_held_out_end_keeps_at_least_half_of_its_tokens(place, size, tiny, own_folder):
    tokens = np.full(1000, 5)
    tokens[place - 1] = BYTES.eos
    write_numbers(own_folder / "train.bin", numbers=tokens)
    store = prepare(tiny(*PRETRAIN, "data.path=train.bin", "data.test_fraction=0")).store
    assert store.meta["splits"]["val"]["tokens"] == size


def test_a_special_token_that_gptexp_adds_is_unknown_to_files(tiny, own_folder):
    characters = dict.fromkeys("ab", 0) | {"b": 1}
    (own_folder / "meta.pkl").write_bytes(pickle.dumps({"stoi": characters}))
    write_numbers(own_folder / "train.bin", numbers=[0, 1, 4] * 20)  # 4: <|pad|>
    with pytest.raises(UserError, match=r"token 4 is not in the vocabulary .* has 3 tokens"):
        prepare(tiny("task=pretrain", "tokenizer=char", "data=tokens", "data.path=train.bin"))


def test_the_bytes_of_a_large_split_are_estimated(tiny, own_folder, texts, monkeypatch):
    monkeypatch.setattr(store_module, "DECODED_TOKENS", 100)
    tokens = join(encode(texts))
    write_numbers(own_folder / "train.bin", numbers=tokens)
    write_numbers(own_folder / "val.bin", numbers=tokens * 3)
    sizes = []
    for pieces in (10**9, 20):
        monkeypatch.setattr(store_module, "MAX_DECODED_PIECES", pieces)
        words = (f"data.path={own_folder}", f"cache={own_folder / str(pieces)}")
        sizes.append(prepare(tiny(*PRETRAIN, *words)).store.meta["splits"]["val"]["bytes"])
    assert sizes[0] == 3 * len("".join(texts).encode())
    assert sizes[0] != sizes[1]
    assert abs(sizes[1] / sizes[0] - 1) < 0.01


def test_a_number_between_the_samples_is_refused_where_it_is_read(tiny, own_folder, monkeypatch):
    monkeypatch.setattr(store_module, "SAMPLED_BLOCKS", 4)
    for number in (0, 1):
        tokens = np.full(40_000, 5)
        tokens[20_000 * number + 7_000] = 300 * number
        write_numbers(own_folder / f"{number}.bin", numbers=tokens)
    store = prepare(
        tiny(*PRETRAIN, "data.path=?.bin", "data.val_fraction=0", "data.test_fraction=0")
    ).store
    tokens = store.tokens("train")
    assert len(tokens[:60_000]) == 60_000
    with pytest.raises(UserError, match=r"1\.bin: token 300 at position 27,000 is not in the voc"):
        tokens.read(np.array([0, 66_990]), np.array([30, 30]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task=summarize", "task.max_target_tokens=8"), "token files are for task=pretrain"),
        (("task.answers=true",), r"without task\.answers and task\.lead_last_fraction"),
        (("tokenizer=bpe",), r"tokenizer=bpe: is trained on texts, and data=tokens has numbers"),
        (("data.path=other.bin",), "other.bin: no such file"),
    ],
)
def test_settings_that_need_texts_are_refused(words, message, tiny, own_folder):
    write_numbers(own_folder / "train.bin")
    with pytest.raises(UserError, match=message):
        prepare(tiny(*PRETRAIN, "data.path=train.bin", "init=scratch", *words))
