"""Read records from Parquet files and from Arrow files, in the format of files (also Feather) or of streams."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.open_file import explain_damage, is_compressed, open_bytes
from gptexp.errors import UserError
from gptexp.wording import first_line

EXTENSIONS = (".parquet", ".arrow", ".feather", ".ipc")
MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}
BATCH_ROWS = 1024

Convert = Callable[[Any], Any]


def read_arrow(
    file: Path, extension: str, row_groups: range | None = None
) -> Iterator[tuple[str, Record]]:
    """Yield the place and the values of each row.

    Args:
        row_groups: those of a Parquet file that are read, and rows are counted from; None: all of them.

    Raises:
        UserError: the file is damaged, or of another format.
    """
    number = 0
    with explain_damage(file), open_bytes(file):
        pass  # it can be read, and Git LFS has fetched it
    with _explain_format(file, extension):
        place = f"{file}, row group {row_groups.start}" if row_groups else f"{file}"
        for batch in _batches(file, extension, row_groups):
            yield from (
                (f"{place}, row {number}", record)
                for number, record in enumerate(records_of_batch(batch), number + 1)
            )
            number += batch.num_rows


def count_row_groups(file: Path) -> int:
    """Return the number of row groups of a Parquet file.

    Raises:
        UserError: the file is damaged, or of another format.
    """
    import pyarrow.parquet

    with _explain_format(file, ".parquet"):
        return pyarrow.parquet.read_metadata(file).num_row_groups


@contextmanager
def _explain_format(file: Path, extension: str) -> Iterator[None]:
    """Raise a UserError that names the file where it cannot be read as its extension says."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: not UTF-8
        name = "a Parquet file" if extension == ".parquet" else "an Arrow file"
        raise UserError(f"{file}: not {name}, or damaged ({first_line(error)})") from None


def records_of_batch(batch: Any) -> list[Record]:
    """Return the rows of a pyarrow.RecordBatch or Table, its narrow floats in their shortest spelling."""
    records = batch.to_pylist(maps_as_pydicts="lossy")
    for field in batch.schema:
        if convert := _converter(field.type):
            for record in records:
                record[field.name] = convert(record[field.name])
    return records


def _batches(file: Path, extension: str, row_groups: range | None) -> Iterator[Any]:
    """Yield the record batches of a file."""
    import pyarrow
    import pyarrow.parquet

    source: Any = str(file)
    if is_compressed(file):  # the formats are read from their end
        with explain_damage(file), open_bytes(file) as stream:
            source = pyarrow.BufferReader(stream.read())
    if extension == ".parquet":
        with pyarrow.parquet.ParquetFile(source) as table:
            yield from table.iter_batches(batch_size=BATCH_ROWS, row_groups=row_groups)
        return
    with pyarrow.memory_map(source) if isinstance(source, str) else source as stream:
        try:
            reader = pyarrow.ipc.open_file(stream)
        except pyarrow.ArrowInvalid:
            stream.seek(0)
            reader = pyarrow.ipc.open_stream(stream)
            batches = iter(reader)
        else:
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        for batch in batches:
            batch.validate(full=True)  # of a damaged file, values would be read beyond its end
            yield batch


def _converter(data_type: Any) -> Convert | None:
    """Return a function that shortens the 16- and 32-bit floats in a value; None where it has none.

    to_pylist widens them: a 32-bit 0.1 becomes 0.10000000149011612.
    """
    from pyarrow import types

    if types.is_float32(data_type) or types.is_float16(data_type):
        width = np.float32 if types.is_float32(data_type) else np.float16
        return lambda value: None if value is None else float(str(width(value)))
    if (
        types.is_list(data_type)
        or types.is_large_list(data_type)
        or types.is_fixed_size_list(data_type)
    ):
        if convert_item := _converter(data_type.value_type):
            return lambda items: None if items is None else list(map(convert_item, items))
    elif types.is_struct(data_type):
        converters = {
            field.name: convert for field in data_type if (convert := _converter(field.type))
        }
        if converters:
            return lambda value: (
                value
                and {
                    name: converters[name](item) if name in converters else item
                    for name, item in value.items()
                }
            )
    return None
