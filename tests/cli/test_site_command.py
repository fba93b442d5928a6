"""`harness site`: built once, cut down, served; wrong options are sentences."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from harness.store.store import Store

# who starts the tests in the background of a shell has them ignore Ctrl-C, and hands that down
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from harness.cli import main; main()"
)


def boards_of(folder):
    return sorted(path.stem for path in (folder / "boards").glob("*.html"))


def test_a_second_build_draws_nothing(small, harness):
    first, second = harness("site"), harness("site")
    assert first.out == second.out == "site/index.html\n"
    drawn, _, files = first.err.split()[:3]
    assert drawn == files
    assert second.err.strip() == f"0 of {files} files drawn"


def test_a_quiet_build_says_where_it_is_and_no_more(small, harness):
    assert harness("site", "-q")[1:] == ("site/index.html\n", "")


def test_one_board_alone_is_meant_by_its_dataset_or_its_name(small, harness):
    assert harness("site", "--only", "digits").code == 0
    (name,) = boards_of(small / "site")
    assert harness("site", "--only", name, "--out", "other").code == 0
    assert boards_of(small / "other") == [name]
    assert not (small / "site" / "data" / "results.db").exists()


def test_one_board_alone_does_not_replace_a_whole_site(small, harness):
    harness("site")
    found = harness("site", "--only", "digits")
    assert found.code == 2
    assert "choose another --out" in found.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "digit"), "no board named 'digit'. "),
        (("--only", ""), ""),
        (("--port", "80"), "give --serve too"),
        (("--host", "127.0.0.1"), "give --serve too"),
        (("--serve", "--host", ""), "--host is empty"),
        (("--serve", "--host", "203.0.113.1", "--port", "0"), "cannot listen on '203.0.113.1'"),
        (("--serve", "--port", "65536"), "--port"),
        (("--serve", "--port", "x"), "--port"),
        (("--serve", "--only", "nothing", "--port", "0"), "no board named 'nothing'"),
        (("--serve", "--db", "absent.db"), "there is no database absent.db"),
        (("--serve", "--out", "results.db", "--port", "0"), "cannot write the site"),
    ],
)
def test_wrong_options_are_a_sentence(small, harness, options, said):
    found = harness("site", *options)
    assert found.code == (2 if said else 0)
    assert said in found.err
    assert "Traceback" not in found.err


def test_a_taken_port_is_a_sentence(small, harness):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = harness("site", "--serve", "--port", port)
    assert found.code == 2
    assert f"port {port} of 127.0.0.1 is taken" in found.err
    assert not (small / "site").exists()


def get(address):
    with closing(HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request("GET", urlsplit(address).path)
        return connection.getresponse().read().decode()


def waited_for(text, address):
    """The page once it holds the text, within a minute."""
    deadline = time.monotonic() + 60
    while text not in (page := get(address)):
        assert time.monotonic() < deadline, page
        time.sleep(0.3)
    return page


def test_a_served_site_follows_the_database_until_it_is_interrupted_in_silence(small, outside):
    command = [sys.executable, "-c", MAIN, "site", "--serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=small, env=outside, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as served:
        try:
            address = served.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            assert "it_has_a_new_name" not in get(address)
            with Store.open(small / "results.db") as store:
                known = store.checkpoint("plain")
                store.add_checkpoint(replace(known, name="it_has_a_new_name"))
            waited_for("it_has_a_new_name", f"{address}index.html")
        finally:
            served.send_signal(signal.SIGINT)
            try:
                out, err = served.communicate(timeout=30)
            finally:
                served.kill()
    assert (served.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if "files drawn" not in line] == []
    assert (small / "site" / "index.html").is_file()
