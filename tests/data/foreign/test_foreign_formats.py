"""The formats of token files of other programs, each written here as its own program writes it."""

import numpy as np
import pytest
from token_files import NUMBERS, write_datatrove, write_llmc, write_megatron, write_numbers

from gptexp.data.foreign.formats import open_token_file
from gptexp.errors import UserError

WRITERS = {
    "nanoGPT": ("train.bin", write_numbers, {}),
    "nanoGPT, wide": ("train.bin", write_numbers, {"dtype": "<u4"}),
    "llm.c": ("train.bin", write_llmc, {}),
    "llm.c, Llama 3": ("train.bin", write_llmc, {"magic": 20240801, "dtype": "<u4"}),
    "Megatron": ("text_document.bin", write_megatron, {}),
    "Megatron, int32": ("text_document.bin", write_megatron, {"code": 4, "dtype": "<i4"}),
    "datatrove": ("00000_shuffled.ds", write_datatrove, {}),
    "datatrove, wide": ("00000_shuffled.ds", write_datatrove, {"dtype": "<u4"}),
    "OLMo": ("part-0.npy", write_numbers, {}),
    "numpy": ("part-0.npy", lambda path: np.save(path, np.array(NUMBERS, np.int64)), {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_recognised_and_its_tokens_are_read_in_place(name, own_folder):
    file_name, write, options = WRITERS[name]
    write(own_folder / file_name, **options)
    dtype = "uint32" if name == "nanoGPT, wide" else None
    file = open_token_file(own_folder / file_name, 300, dtype)
    assert file.format == name.split(",")[0]
    tokens = file.map_tokens()
    assert isinstance(tokens, np.memmap)
    assert tokens.tolist() == NUMBERS
    if file.documents:
        assert file.documents == 3
        assert file.document_ends(np.array([2, 0, 1])).tolist() == [11, 4, 6]


def test_a_document_of_megatron_can_have_several_sequences(own_folder):
    write_megatron(own_folder / "text.bin", starts=[0, 2])
    file = open_token_file(own_folder / "text.bin", 300, None)
    assert file.documents == 2
    assert file.document_ends(np.arange(2)).tolist() == [6, 11]


def test_the_vocabulary_decides_the_type_of_numbers_that_a_file_does_not_name(own_folder):
    write_numbers(own_folder / "train.bin")
    assert open_token_file(own_folder / "train.bin", 1 << 16, None).dtype == np.uint16
    write_numbers(own_folder / "train.bin", "<u4")
    assert open_token_file(own_folder / "train.bin", (1 << 16) + 1, None).dtype == np.uint32


def cut_end(path, count=1):
    path.write_bytes(path.read_bytes()[:-count])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("nanoGPT", lambda path: cut_end(path), r"train\.bin: .* no multiple of 2 bytes, a uint16"),
        (
            "llm.c",
            lambda path: cut_end(path, 2),
            r"its header promises 1,046 bytes, and it has 1,044",
        ),
        ("llm.c", lambda path: cut_end(path, 40), r"header promises 1,024 bytes, and it has 1,006"),
        ("Megatron", lambda path: cut_end(path), r"text_document\.idx ends at byte 22, .* has 21"),
        (
            "Megatron",
            lambda path: cut_end(path.with_suffix(".idx"), 8),
            r"text_document\.idx: .* header promises 102 bytes, and it has 94",
        ),
        (
            "Megatron",
            lambda path: path.with_suffix(".idx").write_bytes(b"other"),
            "text_document.idx: .* does not begin with MMIDIDX",
        ),
        ("datatrove", lambda path: cut_end(path), r"index ends at token 11, .* has 21 bytes"),
        (
            "datatrove",
            lambda path: path.with_name(f"{path.name}.index").unlink(),
            "shuffled.ds.index, which datatrove writes beside it, is not there",
        ),
        ("numpy", lambda path: np.save(path, np.zeros((2, 2))), r"of shape \[2, 2\] of float64"),
        ("numpy", lambda path: path.write_bytes(b"\x93NUMPY\x01"), "not a complete token file"),
        ("numpy", lambda path: cut_end(path, 140), "not a complete token file"),
        ("llm.c", lambda path: write_llmc(path, count=-5), "its header promises -5 tokens"),
        ("llm.c", lambda path: write_llmc(path, count=9), "promises 1,042 bytes, and it has 1,046"),
        ("datatrove", lambda path: cut_end(path.with_name(f"{path.name}.index"), 3), "uint64"),
        (
            "Megatron",
            lambda path: write_megatron(path, starts=[0, 9]),
            "it has documents that end behind its last sequence",
        ),
        (
            "nanoGPT, wide",
            lambda path: cut_end(path, 2),
            r"a uint32\. If its numbers are uint16, add data\.dtype=uint16",
        ),
        ("llm.c", lambda path: write_llmc(path, 20240522), "multiple-choice questions, not a text"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(name, damage, message, own_folder):
    file_name, write, options = WRITERS[name]
    write(own_folder / file_name, **options)
    damage(own_folder / file_name)
    vocab_size = 300 if "wide" not in name else 1 << 17
    with pytest.raises(UserError, match=message):
        open_token_file(own_folder / file_name, vocab_size, None).document_ends(np.arange(2))


def test_another_file_is_refused_with_the_formats_that_are_read(own_folder):
    (own_folder / "text.txt").write_text("a text")
    with pytest.raises(UserError, match=r"not a token file\. Known: \.bin of nanoGPT"):
        open_token_file(own_folder / "text.txt", 300, None)
