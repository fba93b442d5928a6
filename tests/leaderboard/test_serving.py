"""A served site: what it answers, what it refuses, and that open pages follow the database."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import pytest
from browser import Visitor
from synthetic_boards import record

from harness.errors import HarnessError
from harness.identity import Failure
from harness.store.store import Store
from harness.threat import ThreatModel
from leaderboard import addresses
from leaderboard.gathering import gather
from leaderboard.publishing import MANIFEST
from leaderboard.serving import LiveSite, listening
from leaderboard.site import build

IMAGES = "5f" * 32


def add_row(path, name):
    """A checkpoint that has a page: its evaluation failed."""
    one = record(name, digest=name[0] * 64)
    with Store.open(path) as store:
        store.add_checkpoint(one)
        threat = ThreatModel("linf", one.threat.epsilon)
        why = ("pgd@logits:ce", "non_finite", "logits hold NaN")
        store.record_failure(Failure(one.digest, "digits", IMAGES, threat, *why))


class Scratch:
    """A store, the folder of its site, and what the server said of them."""

    def __init__(self, folder):
        self.database, self.folder = folder / "results.db", folder / "site"
        self.news, self.warnings = [], []
        self.trouble = None
        self.site = LiveSite(
            self.build,
            self.stamp,
            self.folder,
            news=self.news.append,
            warn=self.warnings.append,
        )

    def build(self):
        if self.trouble is not None:
            raise type(self.trouble)(*self.trouble.args)
        with Store.open(self.database, create=False, read_only=True) as store:
            return build(gather(store), self.folder)

    def stamp(self):
        found = self.database.stat()
        return found.st_mtime_ns, found.st_size


@pytest.fixture
def scratch(tmp_path):
    one = Scratch(tmp_path)
    add_row(one.database, "alpha")
    return one


@pytest.fixture
def server(scratch):
    with listening(scratch.site, "127.0.0.1", 0) as one:
        yield one


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """A server whose database stays as it is; foreign files lie in its folder."""
    one = Scratch(tmp_path_factory.mktemp("steady"))
    add_row(one.database, "alpha")
    with listening(one.site, "127.0.0.1", 0) as server:
        for name in ("notes.txt", ".hidden"):
            (one.folder / name).write_text("mine")
        (one.folder / "linked.html").symlink_to(one.database)
        yield server


def ask(server, path="/", method="GET", **headers):
    """Status, headers and body."""
    with closing(HTTPConnection(*server.server_address[:2], timeout=10)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as answer:
            return answer.status, answer.headers, answer.read()


def raw(server, line):
    """What the server answers first to a request line that no client would send."""
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        connection.sendall(line + b"\r\nHost: localhost\r\n\r\n")
        return connection.makefile("rb").readline()


# What it answers


def test_every_file_of_the_site_is_served_with_its_own_bytes(steady):
    names = sorted(steady.site.shelf.files)
    assert {"index.html", "style.css", "data/results.db"} <= set(names)
    for name in names:
        status, headers, body = ask(steady, f"/{name}")
        assert (name, status) == (name, 200)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        if not name.endswith(".html"):
            assert body == (steady.site.shelf.folder / name).read_bytes()


def test_a_served_page_differs_from_its_file_by_the_reloading_script_alone(steady):
    _, headers, body = ask(steady)
    version = steady.site.shelf.version
    script = f'<script src="/live.js" data-version="{version}" defer></script>\n'
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert body.decode().count(script) == 1
    plain = body.decode().replace(script, "").replace(" connect-src 'self';", "")
    assert plain.encode() == (steady.site.shelf.folder / "index.html").read_bytes()
    assert b"live.js" not in (steady.site.shelf.folder / "index.html").read_bytes()


def test_a_question_after_the_path_changes_nothing(steady):
    assert ask(steady, "/index.html?sort=clean")[2] == ask(steady)[2]


def test_head_says_what_get_would_without_the_bytes(steady):
    status, headers, body = ask(steady, "/style.css", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(ask(steady, "/style.css")[2])


# What it refuses


@pytest.mark.parametrize(
    "path",
    [
        f"/{MANIFEST}",
        "/boards/",
        "/boards",
        "/data",
        "/notes.txt",
        "/.hidden",
        "/index.html/",
        "/./index.html",
        "/%00",
        "/%ff",
        "/linked.html",
        "/absent.html",
    ],
)
def test_only_files_that_the_manifest_names_are_served(steady, path):
    assert ask(steady, path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [b"/../results.db", b"/%2e%2e/results.db", b"/boards/../../results.db", b"/..%2fresults.db"],
)
def test_no_path_leads_out_of_the_folder(steady, path):
    assert (steady.site.shelf.folder.parent / "results.db").is_file()
    assert raw(steady, b"GET " + path + b" HTTP/1.0").split()[1] == b"404"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_nothing_but_get_and_head_is_answered(steady, method):
    status, headers, _ = ask(steady, method=method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("line", [b"", b"nonsense", b"GET / HTTP/9.9", b"GET " + b"/" * 70000])
def test_what_is_no_request_leaves_the_server_answering(steady, line):
    raw(steady, line)
    assert ask(steady)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.evil.example", "", "[", "10.0.0.1:80"])
def test_a_local_server_is_read_under_its_own_names_alone(steady, host):
    assert ask(steady, Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:80"])
def test_the_names_of_this_machine_are_its_own(steady, host):
    assert ask(steady, Host=host)[0] == 200


def test_a_taken_port_is_a_sentence(server, scratch):
    port = server.server_address[1]
    with (
        pytest.raises(HarnessError, match=f"port {port} of 127.0.0.1 is taken.*--port 0"),
        listening(scratch.site, "127.0.0.1", port),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "said"), [("", "--host is empty"), ("203.0.113.1", "cannot listen")]
)
def test_an_address_of_nobody_is_a_sentence(scratch, host, said):
    with pytest.raises(HarnessError, match=said), listening(scratch.site, host, 0):
        pass


def test_nothing_is_answered_where_the_first_build_fails(scratch):
    scratch.trouble = HarnessError("the disk is full.")
    with pytest.raises(HarnessError, match="disk is full"), listening(scratch.site, "127.0.0.1", 0):
        pass


# Following the database


def test_a_row_that_comes_in_is_served_after_the_next_look(server, scratch):
    before = ask(server, "/live")[2]
    assert not scratch.site.look()
    add_row(scratch.database, "beta")
    assert scratch.site.look()
    assert ask(server, "/checkpoints/beta.html")[0] == 200
    assert ask(server, "/live")[2] != before
    assert "files drawn" in scratch.news[-1]


def test_a_write_that_changes_no_page_reloads_none(server, scratch):
    before = ask(server, "/live")[2]
    scratch.database.touch()
    assert not scratch.site.look()
    assert ask(server, "/live")[2] == before


@pytest.mark.parametrize("trouble", [HarnessError("the disk is full."), RuntimeError("a bug")])
def test_a_build_that_fails_is_told_once_and_the_old_pages_stay(server, scratch, trouble):
    old = ask(server)[2]
    scratch.trouble = trouble
    for name in ("beta", "gamma"):
        add_row(scratch.database, name)
        assert not scratch.site.look()
    assert ask(server)[2] == old
    assert len(scratch.warnings) == 1
    assert "the pages stay as they were" in scratch.warnings[0]
    assert str(trouble) in scratch.warnings[0]


def test_a_build_that_failed_is_tried_again_with_the_next_change(server, scratch):
    scratch.trouble = HarnessError("the disk is full.")
    add_row(scratch.database, "beta")
    scratch.site.look()
    scratch.trouble = None
    assert not scratch.site.look()  # nothing changed, and it is too early to try on
    add_row(scratch.database, "gamma")
    assert scratch.site.look()
    assert ask(server, "/checkpoints/beta.html")[0] == 200


def test_a_database_that_goes_away_is_told_and_the_pages_stay(server, scratch):
    scratch.database.unlink()
    assert not scratch.site.look()
    assert ask(server)[0] == 200
    assert scratch.warnings


# In a browser


@contextmanager
def visiting(browser, server):
    one = Visitor(browser, origin=server.address)
    try:
        yield one
    finally:
        one.close()
    assert one.complaints == []


def test_an_open_page_reloads_itself_and_keeps_its_address_and_place(browser, server, scratch):
    path = next(name for name in scratch.site.shelf.files if name.startswith("boards/"))
    with visiting(browser, server) as visitor:
        page = visitor.open(f"{server.address}{path.split('.')[0]}.html?q=a#rows", (390, 500))
        page.evaluate("window.scrollTo(0, 150)")
        assert page.get_by_role("link", name="beta").count() == 0
        where, place = page.url, page.evaluate("scrollY")
        with page.expect_event("load", timeout=15000):
            add_row(scratch.database, "beta")
            assert scratch.site.look()
        assert page.evaluate("scrollY") == pytest.approx(place, abs=2)
        assert page.url == where
        assert page.locator(f'a[href*="{addresses.checkpoint_page(record("beta"))}"]').count()


def test_a_page_without_scripts_is_read_as_it_is(browser, steady):
    with visiting(browser, steady) as visitor:
        page = visitor.open(steady.address, has_scripts=False)
        assert page.get_by_role("heading", level=1).count() == 1
