"""Walks over the fields of a protobuf file, and reads only those that are needed.

protobuf parses a message as a whole: it would hold the weights of a model in memory, up to three times.

Source: Protocol Buffers, "Encoding" (protobuf.dev/programming-guides/encoding).
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5
"""Wire types. Groups (3 and 4) are deprecated, and the formats that are read here have none."""

_MAX_BYTES = 2**31 - 1  # protobuf's limit for one message
_MAX_TEXT = 2**24  # bytes; `segzoo._text` reads no longer texts either
_MAX_TEXTS = 2**26  # bytes of all texts of a file together
_MAX_FIELDS = 1_000_000  # per file: two bytes can be a field, and each takes some microseconds


class Damaged(Exception):
    """The bytes are not a valid message; the message of the error says why."""


class Message:
    """A message in an open file, or a text, bytes or packed numbers in one. Nothing is read before it is asked for.

    `len` is the number of its bytes. Each length is checked against the bytes that remain.
    """

    def __init__(self, file: "_File", start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def fields(self) -> Iterator[tuple[int, "int | Message"]]:
        """Yields the number of each field and its value; fields of fixed size are skipped.

        Raises:
            Damaged: there is no valid field, or it is longer than this message; or the file has over a million.
        """
        position = self._start
        while position < self._end:
            self._file.count_field()
            tag, position = self._varint(position)
            number, wire_type = divmod(tag, 8)
            if number == 0 or wire_type not in (_VARINT, _FIXED64, _LEN, _FIXED32):
                raise Damaged(f"there is no valid field before byte {position}")
            if wire_type == _VARINT:
                value, position = self._varint(position)
                yield number, value
                continue
            if wire_type == _LEN:
                size, position = self._varint(position)
            else:
                size = 8 if wire_type == _FIXED64 else 4
            remaining = self._end - position
            if size > min(remaining, _MAX_BYTES):
                raise Damaged(f"at byte {position} a field claims {size:,} bytes, and {remaining:,} remain")
            if wire_type == _LEN:
                yield number, Message(self._file, position, position + size)
            position += size

    def messages(self) -> Iterator[tuple[int, "Message"]]:
        """The same, without the numbers."""
        return ((number, value) for number, value in self.fields() if isinstance(value, Message))

    def numbers(self) -> Iterator[int]:
        """Packed numbers, unsigned."""
        position = self._start
        while position < self._end:
            value, position = self._varint(position)
            yield value

    def content(self) -> bytes:
        """A copy of the bytes."""
        return self._file.content[self._start : self._end]

    def text(self) -> str:
        """The bytes as text.

        Raises:
            Damaged: they are not UTF-8, or more than 16 MiB.
        """
        if len(self) > _MAX_TEXT:
            raise Damaged(f"a text has {len(self):,} bytes, and at most {_MAX_TEXT:,} are read")
        self._file.count_text(len(self))
        return decode(self.content())

    def _varint(self, position: int) -> tuple[int, int]:
        """The number at a position in the file, and the position after it."""
        content, value = self._file.content, 0
        for shift in range(0, 70, 7):
            if position == self._end:
                raise Damaged("it ends in the middle of a number")
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise Damaged(f"byte {position} is in the middle of a number of over ten bytes")


class _File:
    def __init__(self, content: mmap.mmap | bytes) -> None:
        self.content = content
        self._count = 0
        self._text = 0

    def count_field(self) -> None:
        self._count += 1
        if self._count > _MAX_FIELDS:
            raise Damaged(f"it has over {_MAX_FIELDS:,} fields")

    def count_text(self, size: int) -> None:
        self._text += size
        if self._text > _MAX_TEXTS:
            raise Damaged(f"its texts have over {_MAX_TEXTS:,} bytes")


@contextmanager
def open_message(path: Path) -> Iterator[Message]:
    """The outermost message of a file, which is open inside the `with` block.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:  # which cannot be mapped
            yield Message(_File(b""), 0, 0)
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            yield Message(_File(content), 0, size)


def decode(content: bytes) -> str:
    """The bytes as text.

    Raises:
        Damaged: they are not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Damaged(f"{content[:40]!r} is not a valid name") from None
