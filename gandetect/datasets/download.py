"""Download a published file, test its checksum and show the progress."""

import hashlib
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError

from gandetect.data.images import DataFileError

_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Parameters
    ----------
    name : str
        Its name on disk.
    url : str
        Its address.
    checksum : str
        ``"md5:<hex digits>"`` or ``"sha256:<hex digits>"``, as the publisher states it.
    """

    name: str
    url: str
    checksum: str


def download(remote: RemoteFile, folder: Path) -> Path:
    """Download `remote` into `folder`, unless a file of that name exists there.

    The file gets its name only when it is complete and its checksum is correct. Progress is
    written to standard error.

    Parameters
    ----------
    remote : RemoteFile
        The file to download.
    folder : pathlib.Path
        The folder to put it in; created if needed.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ConnectionError
        If the file cannot be downloaded; the message names the place for a manual copy.
    DataFileError
        If the downloaded file has a wrong checksum; the file is not kept.
    """
    target = folder / remote.name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # Each process downloads into its own temporary folder, so that concurrent downloads of one
    # file do not write to the same path.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as unfinished:
        part = Path(unfinished) / remote.name
        digest = _fetch(remote, part, target)
        if digest != remote.checksum:
            raise DataFileError(
                f"the file from {remote.url} has the checksum {digest}, expected "
                f"{remote.checksum}, and was deleted. Try again, or put a valid copy at {target}"
            )
        part.replace(target)
    return target


def _fetch(remote: RemoteFile, part: Path, target: Path) -> str:
    """Download the content of the address to the file `part`; return its checksum."""
    try:
        with (
            urllib.request.urlopen(remote.url, timeout=_TIMEOUT_SECONDS) as response,
            part.open("wb") as file,
        ):
            n_total = int(response.headers.get("Content-Length", 0))
            return _copy(response, file, remote, n_total)
    # URLError, timeouts and refused connections are OSErrors; an incomplete response is not.
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            # An HTTPError is also a response with an open connection.
            error.close()
        raise ConnectionError(
            f"{remote.url} could not be downloaded ({error}). Without a network connection, "
            f"download that file on another machine and put it at {target}"
        ) from error


def _copy(source: BinaryIO, file: BinaryIO, remote: RemoteFile, n_total: int) -> str:
    """Copy all bytes and show the progress; return their checksum."""
    algorithm = remote.checksum.partition(":")[0]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    n_bytes = 0
    last_shown = ""
    while chunk := source.read(_CHUNK_BYTES):
        file.write(chunk)
        digest.update(chunk)
        n_bytes += len(chunk)
        shown = _progress(remote.name, n_bytes, n_total)
        if shown != last_shown and sys.stderr.isatty():
            print(f"\r{shown}", end="", file=sys.stderr, flush=True)
        last_shown = shown
    # A log file gets this line only; in a terminal it replaces the progress line.
    print(f"\r{last_shown}" if sys.stderr.isatty() else last_shown, file=sys.stderr)
    return f"{algorithm}:{digest.hexdigest()}"


def _progress(name: str, n_bytes: int, n_total: int) -> str:
    """Return the progress as text, in whole percent if the size is known."""
    if not n_total:
        return f"{name}: {n_bytes / 1e6:.0f} MB"
    share = min(1.0, n_bytes / n_total)
    bar = "#" * round(30 * share)
    return f"{name}: [{bar:<30}] {share:4.0%} of {n_total / 1e6:.1f} MB"
