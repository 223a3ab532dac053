import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gandetect.datasets import DataFileError
from gandetect.datasets.download import RemoteFile, download

CONTENT = bytes(range(256)) * 1000


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class _WithoutLength(_QuietHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT)


class _BreaksOff(_QuietHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start servers on loopback that stop with the test."""
    monkeypatch.setenv("no_proxy", "*")
    source = tmp_path / "published"
    source.mkdir()
    (source / "data.bin").write_bytes(CONTENT)
    servers = []

    def start(handler=_QuietHandler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(source)))
        # So that closing the server waits for the answers under way.
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def _remote(address, name="data.bin", algorithm="md5", content=CONTENT):
    checksum = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    return RemoteFile(name, f"{address}/{name}", f"{algorithm}:{checksum}")


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("handler", [_QuietHandler, _WithoutLength])
def test_fetches_into_a_new_folder(serve, tmp_path, algorithm, handler):
    folder = tmp_path / "new" / "folder"
    path = download(_remote(serve(handler), algorithm=algorithm), folder)
    assert path == folder / "data.bin"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]


def test_progress_goes_to_standard_error_in_one_line(serve, tmp_path, capsys):
    download(_remote(serve()), tmp_path / "to")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"data.bin: [{'#' * 30}] 100% of 0.3 MB\n"


def test_progress_moves_on_a_terminal(serve, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    download(_remote(serve()), tmp_path / "to")
    shown = capsys.readouterr().err.split("\r")
    assert shown[1].startswith("data.bin: [########")
    assert shown[1].endswith(" 26% of 0.3 MB")
    assert shown[-1].endswith("100% of 0.3 MB\n")


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"mine")
    download(_remote("http://127.0.0.1:9"), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"


def test_a_wrong_checksum_leaves_nothing(serve, tmp_path):
    folder = tmp_path / "to"
    with pytest.raises(DataFileError, match=r"checksum md5:.*was deleted"):
        download(_remote(serve(), content=b"other"), folder)
    assert list(folder.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(serve, tmp_path):
    folder = tmp_path / "to"
    remote = _remote(serve(_BreaksOff), content=CONTENT + CONTENT)
    with pytest.raises((DataFileError, ConnectionError), match=r"data\.bin"):
        download(remote, folder)
    assert list(folder.iterdir()) == []


def test_a_missing_page_says_where_to_put_the_file(serve, tmp_path):
    folder = tmp_path / "to"
    with pytest.raises(ConnectionError, match="404") as error:
        download(_remote(serve(), name="gone.bin"), folder)
    assert str(folder / "gone.bin") in str(error.value)
    assert list(folder.iterdir()) == []


def test_no_network_says_where_to_put_the_file(serve, tmp_path):
    address = serve().rpartition(":")[0]
    # Port 9, discard: nothing listens there.
    with pytest.raises(ConnectionError, match="network connection, download that file") as error:
        download(_remote(f"{address}:9"), tmp_path / "to")
    assert str(tmp_path / "to" / "data.bin") in str(error.value)
