"""Files and folders that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mouselift.errors import InputError

# What disks do to programs that are right.
DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
)

MAX_STEM = 64  # characters of a name that its temporary name begins with


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and rename it once it is whole.

    When the block raises, the temporary file goes and an earlier file of that name stays as it was.

    Args:
        path: Where the file shall be in the end; its folder must exist.

    Yields:
        The temporary path, with the same suffix.

    Raises:
        InputError: If the file cannot be created there, or the disk fails while it is written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, found a folder")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem[:MAX_STEM]}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: expected a place to write to, found: {error.strerror}") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        with _disk_errors_at(path):
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Fill a temporary folder beside `folder`, and give it that name once it is whole; an earlier one is replaced.

    When the block raises, the temporary folder goes and an earlier folder of that name stays as it was.

    Args:
        folder: Where the folder shall be in the end; parents are made.

    Yields:
        The temporary folder.

    Raises:
        InputError: If it cannot be made there, or the disk fails while it is filled.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:MAX_STEM]}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder}: expected a place that can be written to, found: {error.strerror}") from error
    try:
        with _disk_errors_at(folder):
            yield temporary
            temporary.chmod(0o777 & ~_umask())  # mkdtemp makes private folders
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed runs left of writing these files and folders; nobody may be writing them now.

    Args:
        folder: Where they lie.
        names: As they were to be called in the end.
    """
    stems = {part[:MAX_STEM] for name in names for part in (name, Path(name).stem)}  # of folders, and of files
    for path in folder.glob(".*-*"):
        if path.name[1:].rpartition("-")[0] not in stems:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _disk_errors_at(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise InputError(f"{path}: expected a disk that can be written to, found: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
