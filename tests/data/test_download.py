import hashlib
import io
import logging
from http.client import IncompleteRead

import pytest

from harness.data.download import download, run_client
from harness.errors import HarnessError

CONTENT = bytes(range(256)) * 100
URL = "https://example.org/some/file.bin"


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def serve(monkeypatch):
    def answer(content):
        seen = {}

        def urlopen(url, timeout):
            seen.update(url=url, timeout=timeout)
            return io.BytesIO(content) if isinstance(content, bytes) else content

        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        return seen

    return answer


def test_a_file_of_the_right_digest_is_written_under_its_own_name(tmp_path, serve):
    seen = serve(CONTENT)
    file = download(URL, tmp_path, md5=md5(CONTENT), limit=10**6)
    assert file == tmp_path / "file.bin"
    assert file.read_bytes() == CONTENT
    assert seen["timeout"] <= 10


def test_a_changed_or_too_large_file_is_refused(tmp_path, serve):
    serve(CONTENT)
    with pytest.raises(HarnessError, match="it was changed"):
        download(URL, tmp_path, md5="0" * 32, limit=10**6)
    with pytest.raises(HarnessError, match="is above 1000 bytes"):
        download(URL, tmp_path, md5=md5(CONTENT), limit=1000)


def test_a_connection_that_breaks_off_is_an_error_with_a_sentence(tmp_path, serve):
    class Breaking(io.BytesIO):
        def read(self, size=-1):
            raise IncompleteRead(b"some")

    serve(Breaking())
    with pytest.raises(HarnessError, match="broke off"):
        download(URL, tmp_path, md5="0" * 32, limit=10**6)


def test_progress_is_logged_every_20_mebibytes(tmp_path, serve, caplog):
    content = bytes(45 * 1024**2)
    serve(content)
    with caplog.at_level(logging.INFO, logger="harness.data"):
        download(URL, tmp_path, md5=md5(content), limit=10**8)
    assert [record.getMessage() for record in caplog.records] == [
        f"{URL}: 20 MiB",
        f"{URL}: 40 MiB",
    ]


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")


def test_a_client_runs_in_the_folder(tmp_path, installed):
    run_client(["sh", "-c", "echo it > here"], tmp_path, seconds=10)
    assert (tmp_path / "here").read_text() == "it\n"


@pytest.mark.parametrize(
    ("script", "seconds", "sentence"),
    [
        ("echo warning >&2; echo npm error E404 >&2; exit 1", 10, "failed: npm error E404"),
        ("exit 3", 10, "failed: no message"),
        ("sleep 5", 0.1, "took more than"),
    ],
)
def test_a_client_that_fails_says_why(tmp_path, installed, script, seconds, sentence):
    with pytest.raises(HarnessError, match=sentence):
        run_client(["sh", "-c", script], tmp_path, seconds=seconds)


def test_a_client_that_is_not_there_is_named(tmp_path):
    with pytest.raises(HarnessError, match="`npm` is not installed"):
        run_client(["npm", "pack"], tmp_path, seconds=1)
