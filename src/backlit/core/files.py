"""Files that are whole or not there: written beside their place and moved into it, read with errors that teach."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backlit.core.errors import FileError
from backlit.core.types import Array, Arrays


def write(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` so that ``path`` holds either all of it or what it held before, also if the disk fills up.

    Raises FileError ``disk_full`` or ``write_failed``.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise FileError(_cause(error), where=str(target), got=error.strerror or str(error), size=len(data)) from error
    return target


def _cause(error: OSError) -> str:
    return "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write_failed"


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file, if it is there; FileError ``write_failed``."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise FileError("write_failed", where=str(path), got=error.strerror or str(error)) from error


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; FileError ``file_missing`` or ``file_unreadable``."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileError("file_missing", where=str(path), got=str(error.strerror)) from error
    except OSError as error:
        raise FileError("file_unreadable", where=str(path), got=error.strerror or str(error)) from error


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write ``value`` as JSON."""
    return write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file; FileError ``file_damaged`` where it is not JSON."""
    try:
        return json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise FileError("file_damaged", where=str(path), expected="JSON", got=str(error)) from error


def write_tensors(path: str | os.PathLike[str], arrays: Arrays, header: Mapping[str, Any]) -> Path:
    """Write arrays by name as a safetensors file; ``header`` (JSON values) goes into its metadata."""
    from safetensors.numpy import save

    plain = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    return write(path, save(plain, metadata={"backlit": json.dumps(header)}))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """(arrays by name, header) of a file from :func:`write_tensors`; FileError ``file_damaged`` where it is cut."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = read(path)
    try:
        arrays = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["backlit"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileError("file_damaged", where=str(path), expected="safetensors (backlit)", got=str(error)) from error
    return arrays, header


def append(path: str | os.PathLike[str], line: bytes) -> Path:
    """Add ``line`` to a file so that it is there after a crash; FileError ``disk_full`` or ``write_failed``."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(_cause(error), where=str(target), got=error.strerror or str(error), size=len(line)) from error
    return target
