"""One parquet file of labelled images: its columns checked, its rows read a thousand at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.decoding import LIMIT
from harness.errors import HarnessError

_IMAGES = ("img", "image")
_LABELS = ("fine_label", "label")
MOST_ROWS = 10_000_000
"""Labels are read at once, and a kilobyte of a file may stand for billions of equal ones."""

_ROWS = 1000  # read at a time, so that the encoded images are never all in memory


@dataclass(frozen=True)
class Shard:
    """One parquet file whose columns were found to be what they should be."""

    path: Path
    file: Any  # a pyarrow.parquet.ParquetFile, which has no types
    image_column: str
    label_column: str
    classes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Read the header of `path`.

        Raises:
            HarnessError: it is no parquet file, or has not the columns of labelled images.
        """
        import pyarrow as pa  # noqa: PLC0415 - seconds to import, and few datasets need it
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise HarnessError(f"{path} is no whole parquet file ({error}).") from error
        schema = file.schema_arrow
        images = next((name for name in _IMAGES if schema.names.count(name) == 1), None)
        labels = next((name for name in _LABELS if schema.names.count(name) == 1), None)
        if images is None or labels is None or not _holds_images(schema.field(images).type):
            raise HarnessError(
                f"{path} has the columns {', '.join(schema.names)}: it needs images in "
                f"{' or '.join(_IMAGES)} (a struct with encoded bytes) and whole numbers in "
                f"{' or '.join(_LABELS)}."
            )
        if not pa.types.is_integer(schema.field(labels).type):
            raise HarnessError(
                f"{path} has {schema.field(labels).type} labels: they must be integers."
            )
        if file.metadata.num_rows > MOST_ROWS:
            raise HarnessError(
                f"{path} claims {file.metadata.num_rows} images: the limit is {MOST_ROWS}."
            )
        return cls(path, file, images, labels, _declared_classes(schema.metadata, labels))

    @property
    def rows(self) -> int:
        """How many images the file says it has."""
        return int(self.file.metadata.num_rows)

    def labels(self) -> NDArray[np.int64]:
        """[rows] labels, not yet checked against any classes."""
        column = self._table([self.label_column]).column(0)
        if column.null_count:
            raise HarnessError(f"{self.path} has {column.null_count} images without label.")
        return np.asarray(column.to_numpy()).astype(np.int64)

    def images(self) -> Iterator[tuple[str, bytes]]:
        """(name for errors, encoded image) of every row."""
        size = sum(
            self.file.metadata.row_group(index).total_byte_size
            for index in range(self.file.num_row_groups)
        )
        if size > LIMIT:
            raise HarnessError(f"{self.path} unpacks to {size} bytes: the limit is {LIMIT}.")
        row = 0
        for batch in self._batches():
            for value in batch.column(0).to_pylist():
                data = value.get("bytes") if isinstance(value, dict) else value
                where = f"image {row} of {self.path}"
                if not data:
                    raise HarnessError(
                        f"{where} is empty: images must be in the file itself, encoded."
                    )
                yield where, data
                row += 1

    def _batches(self) -> Iterator[Any]:
        import pyarrow as pa  # noqa: PLC0415

        try:
            yield from self.file.iter_batches(_ROWS, columns=[self.image_column])
        except (pa.ArrowException, OSError) as error:
            raise HarnessError(f"{self.path} is damaged ({error}).") from error

    def _table(self, columns: list[str]) -> Any:
        import pyarrow as pa  # noqa: PLC0415

        try:
            return self.file.read(columns)
        except (pa.ArrowException, OSError) as error:
            raise HarnessError(f"{self.path} is damaged ({error}).") from error


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_struct(kind):
        return "bytes" in [kind.field(index).name for index in range(kind.num_fields)]
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _declared_classes(metadata: dict[bytes, bytes] | None, column: str) -> tuple[str, ...]:
    """The class names that the hub's own metadata give; none if there are none."""
    try:
        info = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]
        return tuple(str(name) for name in info["features"][column]["names"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
