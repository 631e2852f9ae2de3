"""Token files of other programs, read where they lie: memory-mapped, never copied.

    NAME.bin                    nanoGPT: uint16 numbers, and nothing else
    NAME.bin                    llm.c: 256 int32, of which the first says whether uint16 or uint32 numbers follow
    NAME.bin and NAME.idx       Megatron: the index has the type of the numbers, and where documents end
    NAME.ds and NAME.ds.index   datatrove: uint16 or uint32 numbers, and uint64 ends of documents
    NAME.npy                    dolma and OLMo: numbers and nothing else, or an array with the header of numpy.save

Each is the format of the program that writes it: nanoGPT data/openwebtext/prepare.py, llm.c dev/data/data_common.py,
Megatron-LM core/datasets/indexed_dataset.py, datatrove pipeline/tokens/tokenizer.py, OLMo-core guides/data_loading.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.open_file import explain_damage
from gptexp.errors import UserError
from gptexp.files import is_lfs_pointer
from gptexp.wording import first_line

PLAIN_FORMATS = ("nanoGPT", "OLMo")  # numbers and nothing else: their type is not in the file
LLMC_HEADER_BYTES = 256 * 4
LLMC_DTYPES = {20240520: "<u2", 20240801: "<u4"}  # by the first number of the header
LLMC_QUESTIONS = 20240522  # a file of multiple-choice questions
MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
MEGATRON_HEADER = np.dtype(
    [
        ("magic", "S9"),
        ("version", "<u8"),
        ("code", "u1"),
        ("sequences", "<u8"),
        ("documents", "<u8"),
    ]
)
MEGATRON_DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}  # by code
NUMPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class TokenFile:
    """A file of token numbers, and where they are in it."""

    path: Path
    format: str  # the program whose files look like this
    dtype: np.dtype
    offset: int  # bytes before the first token
    count: int  # tokens
    documents: int | None = None  # that an index beside it lists; None: there is none

    def map_tokens(self) -> NDArray:
        """Return the tokens [count], memory-mapped."""
        if not self.count:
            return np.empty(0, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.offset, (self.count,))

    def document_ends(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ends [N], counted in tokens, of the documents with these numbers [N], as the index has them.

        Raises:
            UserError: one is outside of the file.
        """
        if self.format == "datatrove":
            index = _index_of(self.path)
            ends = np.memmap(index, "<u8", "r")[numbers].astype(np.int64)
        else:
            index = self.path.with_suffix(".idx")
            _, _, pointers, documents = _read_megatron_index(index)
            following = documents[numbers + 1]  # sequence, which begins where the document ends
            if ((following < 0) | (following > len(pointers))).any():
                raise damaged(index, "it has documents that end behind its last sequence")
            starts = pointers[np.minimum(following, len(pointers) - 1)] // self.dtype.itemsize
            ends = np.where(following < len(pointers), starts, self.count)
        if ((ends < 0) | (ends > self.count)).any():
            raise damaged(index, "it has document ends that do not fit the tokens")
        return ends


def open_token_file(path: Path, vocab_size: int, dtype: str | None) -> TokenFile:
    """Recognise the format of a token file by its name, its first bytes and the files beside it.

    Args:
        dtype: type of the numbers in a file that does not name it: data.dtype. None: uint16, unless `vocab_size` is
            larger than that.

    Raises:
        UserError: the file is damaged, or of no known format.
    """
    with explain_damage(path):
        if is_lfs_pointer(path):
            raise UserError(f"{path}: a pointer of Git LFS instead of the file. Type: git lfs pull")
        with path.open("rb") as stream:
            head = stream.read(8)
    magic = int.from_bytes(head[:4], "little")
    plain = np.dtype(dtype or ("uint16" if vocab_size <= 1 << 16 else "uint32")).newbyteorder("<")
    match path.suffix:
        case ".ds":
            return _open_datatrove(path)
        case ".npy" if head.startswith(NUMPY_MAGIC):
            return _open_numpy(path)
        case ".npy":
            return _open_plain(path, "OLMo", plain)
        case ".bin" if path.with_suffix(".idx").is_file():
            return _open_megatron(path)
        case ".bin" if magic in LLMC_DTYPES:
            return _open_llmc(path, np.dtype(LLMC_DTYPES[magic]))
        case ".bin" if magic == LLMC_QUESTIONS:
            raise UserError(
                f"{path}: llm.c's multiple-choice questions, not a text. Leave the file out of data.path"
            )
        case ".bin":
            return _open_plain(path, "nanoGPT", plain)
    raise UserError(
        f"{path}: not a token file. Known: .bin of nanoGPT and llm.c, .bin with .idx of Megatron, .ds of datatrove, "
        f".npy of OLMo and numpy. Texts are read with data=files"
    )


def _open_plain(path: Path, name: str, dtype: np.dtype) -> TokenFile:
    count, rest = divmod(path.stat().st_size, dtype.itemsize)
    if rest:
        problem = f"its size is no multiple of {dtype.itemsize} bytes, a {dtype.name}"
        if dtype.itemsize == 4 and rest == 2:
            problem += ". If its numbers are uint16, add data.dtype=uint16"
        raise damaged(path, problem)
    return TokenFile(path, name, dtype, 0, count)


def _open_llmc(path: Path, dtype: np.dtype) -> TokenFile:
    _check_size(path, LLMC_HEADER_BYTES)
    count = int(np.fromfile(path, "<i4", 3)[2])
    if count < 0:
        raise damaged(path, f"its header promises {count:,} tokens")
    _check_size(path, LLMC_HEADER_BYTES + count * dtype.itemsize, is_exact=True)
    return TokenFile(path, "llm.c", dtype, LLMC_HEADER_BYTES, count)


def _open_numpy(path: Path) -> TokenFile:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever a damaged header leads to
        raise damaged(path, first_line(error)) from None
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(
            f"{path}: an array of shape {list(array.shape)} of {array.dtype.name}; one dimension of whole numbers is "
            f"needed"
        )
    return TokenFile(path, "numpy", array.dtype, array.offset, len(array))


def _open_datatrove(path: Path) -> TokenFile:
    index = _index_of(path)
    if not index.is_file():
        raise damaged(path, f"{index.name}, which datatrove writes beside it, is not there")
    documents, rest = divmod(index.stat().st_size, 8)
    if rest:
        raise damaged(index, "its size is no multiple of 8 bytes, a uint64")
    count = int(np.memmap(index, "<u8", "r")[-1]) if documents else 0
    size = path.stat().st_size
    if size not in (2 * count, 4 * count):
        raise damaged(
            path, f"{index.name} ends at token {count:,}, and the file has {size:,} bytes"
        )
    dtype = np.dtype("<u4" if count and size == 4 * count else "<u2")
    return TokenFile(path, "datatrove", dtype, 0, count, documents)


def _index_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def _open_megatron(path: Path) -> TokenFile:
    index, size = path.with_suffix(".idx"), path.stat().st_size
    dtype, lengths, pointers, documents = _read_megatron_index(index)
    end = int(pointers[-1]) + int(lengths[-1]) * dtype.itemsize if len(pointers) else 0
    if end != size or size % dtype.itemsize:
        raise damaged(path, f"{index.name} ends at byte {end:,}, and the file has {size:,}")
    if len(documents) == 0 or documents[-1] != len(pointers):
        raise damaged(index, "its last document does not end with its last sequence")
    return TokenFile(path, "Megatron", dtype, 0, size // dtype.itemsize, len(documents) - 1)


def _read_megatron_index(
    index: Path,
) -> tuple[np.dtype, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the type of the tokens, the length [S] and the first byte [S] of each sequence, and the sequences [D] at
    which documents begin, with the last one's end.
    """
    header = np.fromfile(index, MEGATRON_HEADER, 1)
    if not len(header) or header["magic"][0] != MEGATRON_MAGIC.rstrip(b"\0"):
        raise damaged(index, "it does not begin with MMIDIDX, as Megatron's do")
    _, version, code, sequences, documents = header[0].tolist()
    if version != 1 or code not in MEGATRON_DTYPES:
        raise UserError(f"{index}: version {version} with numbers of type {code} is not known")
    _check_size(index, MEGATRON_HEADER.itemsize + 12 * sequences + 8 * documents)
    arrays = []
    offset = MEGATRON_HEADER.itemsize
    for dtype, count in (("<i4", sequences), ("<i8", sequences), ("<i8", documents)):
        size = np.dtype(dtype).itemsize * count
        arrays.append(
            np.memmap(index, "u1", "r", offset, (size,)).view(dtype) if size else np.empty(0, dtype)
        )
        offset += size
    return np.dtype(MEGATRON_DTYPES[code]), arrays[0], arrays[1], arrays[2]


def _check_size(path: Path, size: int, is_exact: bool = False) -> None:
    """Check that a file has at least the bytes that its header promises; `is_exact`: and no more."""
    actual = path.stat().st_size
    if actual < size or (is_exact and actual > size):
        raise damaged(path, f"its header promises {size:,} bytes, and it has {actual:,}")


def damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: not a complete token file: {problem}")
