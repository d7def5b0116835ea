"""The data root: where files are looked for, what is said when they are missing, checksums, downloads."""

import contextlib
import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pydantic
import pytest

from mtlbench.catalogue import data, fetching
from mtlbench.catalogue.data import DataFile, DataSet
from mtlbench.errors import DataMissing, UsageError

CONTENT = {"images.gz": gzip.compress(b"the images" * 50_000, mtime=0), "labels.txt": b"the labels\n"}


def declared(urls=(), **checksums):
    """A data set of two files below `urls`; `checksums` (name -> sha256) replaces the right ones."""
    files = []
    for name, content in CONTENT.items():
        sha256 = checksums.get(name.split(".")[0], hashlib.sha256(content).hexdigest())
        files.append(DataFile(name=name, urls=[url + name for url in urls], sha256=sha256, size=len(content)))
    return DataSet(
        name="toy",
        title="Toy Set",
        source="https://example.org/toy",
        licence="CC0",
        folders=("toy/raw", "raw"),
        files=files,
    )


def put(root, **changed):
    """Lay the files of the toy set below `root`; `changed` (name -> bytes) replaces their contents."""
    folder = root / "toy" / "raw"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(changed.get(name.split(".")[0], content))
    return folder


def states(found):
    return [state.state for state in found]


@contextlib.contextmanager
def server(cut=False, length=None, slow=0.0, more=b"", phrase=None):
    """An HTTP server on this machine that has the toy set.

    Args:
        cut: close each connection halfway.
        length: what it says that the length is; an empty one says nothing.
        slow: seconds between two bytes.
        more: what it sends behind each file.
        phrase: what it says with a 404.
    """
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            content = CONTENT.get(self.path.strip("/"))
            if content is None or phrase:
                self.send_error(404, phrase)
                return
            self.send_response(200)
            if length != "":
                self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the reader has had enough
                for byte in content if slow else ():
                    self.wfile.write(bytes([byte]))
                    time.sleep(slow)
                self.wfile.write(b"" if slow else (content[: len(content) // 2] if cut else content) + more)

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}/", requests
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch):
    monkeypatch.delenv(data.ENVIRONMENT, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def left_over(root):
    return sorted(path.name for path in root.rglob("*") if path.is_file())


# --- data root and files -----------------------------------------------------------------------------------


def test_data_root_is_the_given_one_then_the_environments_then_none(monkeypatch, tmp_path):
    assert data.data_root() is None
    monkeypatch.setenv(data.ENVIRONMENT, str(tmp_path / "env"))
    assert data.data_root() == tmp_path / "env"
    assert data.data_root(tmp_path / "given") == tmp_path / "given"
    assert data.data_root("~/x") == Path.home() / "x"


@pytest.mark.parametrize("folder", ["toy/raw", "raw"])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_a_file_is_found_in_either_folder_and_plain_or_packed(tmp_path, folder, name):
    path = tmp_path / folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert data.locate(declared(), "images.gz", tmp_path, "task/variant") == path


def test_missing_data_says_where_it_looked_its_source_and_the_command(tmp_path):
    with pytest.raises(DataMissing) as caught:
        data.locate(declared(["http://x/"]), "images.gz", tmp_path, "task/variant")
    message = str(caught.value)
    for place in ("toy/raw/images.gz", "toy/raw/images", "raw/images.gz", "raw/images"):
        assert str(tmp_path / place) in message
    assert "https://example.org/toy" in message
    assert f"mtlbench data fetch task/variant data_root={tmp_path}" in message


def test_missing_data_without_a_root_asks_for_one():
    with pytest.raises(DataMissing, match="data_root=DIR or set MTLBENCH_DATA"):
        data.locate(declared(["http://x/"]), "images.gz", None, "task/variant")


def test_missing_data_that_has_no_address_promises_no_command(tmp_path):
    with pytest.raises(DataMissing) as caught:
        data.locate(declared(), "images.gz", tmp_path, "task/variant")
    assert "data fetch" not in str(caught.value)
    assert f"{tmp_path}/toy/raw" in str(caught.value)


# --- checksums ---------------------------------------------------------------------------------------------


def test_status_and_verify_tell_missing_present_verified_and_corrupt(tmp_path):
    assert states(fetching.status(declared(), tmp_path)) == ["missing", "missing"]
    assert states(fetching.verify(declared(), None)) == ["missing", "missing"]
    put(tmp_path, labels=b"other labels\n")
    assert states(fetching.status(declared(), tmp_path)) == ["present", "present"]
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "corrupt"]


def test_a_packed_copy_of_a_plain_file_is_judged_by_its_contents(tmp_path):
    folder = put(tmp_path)
    (folder / "labels.txt").unlink()
    packed = folder / "labels.txt.gz"
    packed.write_bytes(gzip.compress(CONTENT["labels.txt"]))
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "verified"]
    packed.write_bytes(packed.read_bytes()[:-9])
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "corrupt"]


def test_an_unpacked_copy_of_a_packed_file_has_nothing_to_compare_with(tmp_path):
    folder = put(tmp_path)
    (folder / "images").write_bytes(gzip.decompress(CONTENT["images.gz"]))
    (folder / "images.gz").unlink()
    assert states(fetching.verify(declared(), tmp_path)) == ["present", "verified"]


def test_an_md5_stands_in_where_there_is_no_sha256(tmp_path):
    content = CONTENT["labels.txt"]
    toy = declared().model_copy(update={"files": (DataFile(name="labels.txt", md5=hashlib.md5(content).hexdigest()),)})
    folder = put(tmp_path)
    assert states(fetching.verify(toy, tmp_path)) == ["verified"]
    (folder / "labels.txt").write_bytes(content + b" ")
    assert states(fetching.verify(toy, tmp_path)) == ["corrupt"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a"},
        {"name": "a", "sha256": "12"},
        {"name": "../a", "md5": "0" * 32},
        {"name": "/a", "md5": "0" * 32},
        {"name": "a", "md5": "0" * 32, "urls": ["file:///a"]},
    ],
)
def test_a_declaration_needs_a_checksum_a_relative_path_and_web_addresses(wrong):
    with pytest.raises(pydantic.ValidationError):
        DataFile(**wrong)


# --- download ----------------------------------------------------------------------------------------------


def test_fetch_downloads_checks_and_reports_progress(tmp_path):
    seen = {}
    with server() as (url, _):
        written = fetching.fetch(declared([url]), tmp_path, lambda f, done, total: seen.update({f.name: (done, total)}))
    assert [path.name for path in written] == list(CONTENT)
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "verified"]
    assert seen == {name: (len(content), len(content)) for name, content in CONTENT.items()}
    assert left_over(tmp_path) == sorted(CONTENT)


def test_fetch_downloads_only_what_is_missing_or_corrupt(tmp_path):
    put(tmp_path, labels=b"damaged")
    with server() as (url, requests):
        fetching.fetch(declared([url]), tmp_path)
        assert requests == ["/labels.txt"]
        assert fetching.fetch(declared([url]), tmp_path) == []
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "verified"]


def test_fetch_goes_on_to_the_next_address(tmp_path):
    with server() as (url, requests):
        fetching.fetch(declared([url + "gone/", url]), tmp_path)
        assert requests == ["/gone/images.gz", "/images.gz", "/gone/labels.txt", "/labels.txt"]
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "verified"]


def test_fetch_refuses_a_file_with_another_checksum_and_leaves_nothing(tmp_path):
    with server() as (url, _), pytest.raises(UsageError) as caught:
        fetching.fetch(declared([url], images="0" * 64), tmp_path)
    assert hashlib.sha256(CONTENT["images.gz"]).hexdigest() in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert left_over(tmp_path) == []


def test_fetch_keeps_the_old_file_when_the_new_one_is_not_whole(tmp_path):
    folder = put(tmp_path, labels=b"damaged")
    with server(cut=True) as (url, _), pytest.raises(UsageError, match="ended after 5 of 11 bytes"):
        fetching.fetch(declared([url]), tmp_path)
    assert (folder / "labels.txt").read_bytes() == b"damaged"
    assert left_over(tmp_path) == sorted(CONTENT)


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(tmp_path):
    def interrupt(file, done, total):
        raise KeyboardInterrupt

    with server() as (url, _):
        with pytest.raises(KeyboardInterrupt):
            fetching.fetch(declared([url]), tmp_path, interrupt)
        assert left_over(tmp_path) == []
        fetching.fetch(declared([url]), tmp_path)
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "verified"]


def test_an_unreachable_server_is_named_with_what_to_do_instead(tmp_path):
    with server() as (url, _):
        pass
    with pytest.raises(UsageError) as caught:
        fetching.fetch(declared([url]), tmp_path)
    message = str(caught.value)
    assert f"{url}images.gz: the server cannot be reached" in message
    assert "https://example.org/toy" in message
    assert str(tmp_path / "toy/raw/images.gz") in message
    assert left_over(tmp_path) == []


def everything_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_fetch_that_fails_leaves_no_folder_and_speaks_of_no_file_that_never_was(tmp_path):
    with server() as (url, _):
        pass
    with pytest.raises(UsageError) as caught:
        fetching.fetch(declared([url]), tmp_path / "new")
    assert "left as it was" not in str(caught.value)
    assert everything_below(tmp_path) == []
    put(tmp_path, images=b"damaged")
    with pytest.raises(UsageError, match=rf"downloaded; {tmp_path}/toy/raw/images\.gz is left as it was"):
        fetching.fetch(declared([url]), tmp_path)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"length": "abc"}, "the server says that it has abc bytes, which is no number"),
        ({"length": "-5"}, "it has -5 bytes, which is no number"),
        ({"length": "9" * 5000}, "it has 9+ bytes, which is no number"),
        ({"length": "123456789"}, "the server has 123456789 bytes of it, and it is at most [0-9]+"),
        ({"length": "", "more": b"x" * 50_000}, "sent more than [0-9]+ bytes, and it is less"),
        ({"phrase": "\x1b[31mred\x9b" + "x" * 3000}, "answered 404 [^\x1b\x9b]{1,199}\n"),
    ],
    ids=["letters", "negative", "digits", "large", "endless", "phrase"],
)
def test_an_answer_that_no_server_should_give_is_one_clear_reason(tmp_path, answer, reason):
    with server(**answer) as (url, _), pytest.raises(UsageError, match=reason):
        fetching.fetch(declared([url]), tmp_path)
    assert everything_below(tmp_path) == []


@pytest.mark.timeout(30)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "STALL", 0.3)
    with server(slow=0.05) as (url, _), pytest.raises(UsageError, match=r"less than 1000 a second came for 0 s"):
        fetching.fetch(declared([url]), tmp_path)
    assert everything_below(tmp_path) == []


def test_what_is_no_address_is_a_reason_too(tmp_path):
    with pytest.raises(UsageError, match="that is no address"):
        fetching.fetch(declared(["http://["]), tmp_path)


@pytest.mark.timeout(30)
def test_a_pipe_in_a_data_root_is_no_file_and_never_waited_for(tmp_path):
    folder = put(tmp_path)
    (folder / "labels.txt").unlink()
    os.mkfifo(folder / "labels.txt")
    assert states(fetching.status(declared(), tmp_path)) == ["present", "missing"]
    assert states(fetching.verify(declared(), tmp_path)) == ["verified", "missing"]
    with pytest.raises(DataMissing):
        data.locate(declared(), "labels.txt", tmp_path, "task/variant")


def test_a_data_root_whose_name_is_too_long_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match=r"File name too long\. Choose another data_root"):
        data.locate(declared(), "labels.txt", tmp_path / ("x" * 300), "task/variant")
    with pytest.raises(UsageError, match="is no path"):
        data.data_root("~no_such_user_here/data")


def test_fetch_needs_a_root_that_can_be_written_and_an_address(tmp_path):
    with pytest.raises(UsageError, match="data_root=DIR"):
        fetching.fetch(declared(["http://127.0.0.1:9/"]), None)
    with pytest.raises(UsageError, match=r"get it from https://example\.org/toy"):
        fetching.fetch(declared(), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        fetching.fetch(declared(["http://127.0.0.1:9/"]), tmp_path / "file")


# --- what tasks declare ------------------------------------------------------------------------------------


def test_the_data_sets_of_a_variant_come_from_its_task():
    assert data.needed("multimnist", "digits") == []
    assert [dataset.name for dataset in data.needed("multimnist", "fashion_and_mnist")] == [
        "fashion",
        "mnist",
    ]
    mnist = data.datasets("multimnist")["mnist"]
    assert mnist.size == 11_594_722
    assert all(file.sha256 and file.md5 and len(file.urls) == 2 for file in mnist.files)
    with pytest.raises(UsageError, match="mnist"):
        data.needed("multimnist", "mnistt")


def test_data_sets_are_listed_without_importing_torch():
    code = (
        "import sys; from mtlbench.catalogue import data; "
        "data.needed('multimnist', 'mnist'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
