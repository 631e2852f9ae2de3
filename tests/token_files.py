"""Token files as nanoGPT, llm.c, Megatron and datatrove write them."""

import struct

import numpy as np

DOCUMENTS = [[5, 6, 7, 1], [8, 1], [9, 10, 11, 12, 1]]
NUMBERS = [token for document in DOCUMENTS for token in document]


def write_numbers(path, dtype="<u2", numbers=NUMBERS):
    np.array(numbers, dtype).tofile(path)


def write_llmc(path, magic=20240520, dtype="<u2", count=None, numbers=NUMBERS):
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, len(numbers) if count is None else count
    path.write_bytes(header.tobytes() + np.array(numbers, dtype).tobytes())


def write_megatron(path, documents=DOCUMENTS, code=8, dtype="<u2", starts=None):
    """Write each of `documents` as a sequence; `starts` are those that begin a document (default: all)."""
    starts = range(len(documents)) if starts is None else starts
    np.array([token for document in documents for token in document], dtype).tofile(path)
    lengths = np.array([len(document) for document in documents], "<i4")
    pointers = (np.cumsum(lengths) - lengths) * np.dtype(dtype).itemsize
    path.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, code, len(lengths), len(starts) + 1)
        + lengths.tobytes()
        + pointers.astype("<i8").tobytes()
        + np.array([*starts, len(lengths)], "<i8").tobytes()
    )


def write_datatrove(path, documents=DOCUMENTS, dtype="<u2"):
    np.array([token for document in documents for token in document], dtype).tofile(path)
    np.cumsum([len(document) for document in documents]).astype("<u8").tofile(f"{path}.index")
    path.with_name(f"{path.name}.metadata").write_text("gpt2|2\n11\n11 T")
