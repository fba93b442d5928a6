"""A hostile database on a page in a real browser, in a terminal and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hostile_database import write_database
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from page_reader import read
from synthetic_boards import board, record, standing

from harness.cards import parse_card
from harness.cli import harness, main
from harness.errors import HarnessError
from harness.standings import as_csv
from harness.store.store import Store
from leaderboard import site as site_module
from leaderboard.material import Material
from leaderboard.site import render
from leaderboard.wording import slug

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n')

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-proxy-server",
    *("--virtual-time-budget=2000", "--dump-dom"),
)


class Counted(ThreadingHTTPServer):
    """A server that only remembers what it was asked for."""

    asked: list[str]
    called: threading.Event


class Asked(BaseHTTPRequestHandler):
    server: Counted

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.called.set()
        self.send_error(404)

    def log_message(self, *values: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Counted]:
    server = Counted(("127.0.0.1", 0), Asked)
    server.asked, server.called = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def payload(port: int) -> str:
    """All that the issue names, in one text; what runs adds an element that no page has."""
    adds = "document.body.append(document.createElement('owned'))"
    return (
        f"<script>fetch('http://127.0.0.1:{port}/script');{adds};alert(1)</script>"
        f'"><img src="http://127.0.0.1:{port}/image" onerror="{adds}">'
        f"' onfocus='{adds}' autofocus='<svg onload=\"{adds}\">"
        f'</title></style><iframe src="javascript:parent.{adds}">{{{{7*7}}}}]]>-->'
    )


def build_site(database: Path, folder: Path) -> list[Path]:
    args = ["site", "--db", str(database), "--out", str(folder)]
    harness.main(args=args, standalone_mode=False)
    return sorted(folder.rglob("*.html"))


def opened(page: Path, profile: Path) -> str:
    """The page as a browser has it after its scripts ran."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return run.stdout


@pytest.mark.skipif(BROWSER is None, reason="no chromium: install it, such as apt install chromium")
@pytest.mark.parametrize(
    ("escapes", "has_policy"),
    [(True, True), (True, False), (False, True), (False, False)],
    ids=["both", "escaping alone", "policy alone", "neither"],
)
def test_no_text_of_a_database_runs_in_a_browser_or_makes_it_call(
    tmp_path, listener, monkeypatch, escapes, has_policy
):
    """Escaping and the policy each hold alone; where both are taken out, the text does run."""
    write_database(tmp_path / "hostile.db", payload(listener.server_address[1]))
    if not escapes:
        made = site_module._environment
        monkeypatch.setattr(site_module, "_environment", lambda: careless(made()))
    pages = [
        page
        for page in build_site(tmp_path / "hostile.db", tmp_path / "site")
        if "document.createElement" in page.read_text("utf-8")
    ]
    kinds = [page.parent.name for page in pages]
    assert (kinds.count("site"), kinds.count("boards"), kinds.count("checkpoints")) >= (1, 1, 2)
    for page in pages:
        if not has_policy:
            page.write_text(POLICY.sub("", page.read_text("utf-8")), "utf-8")
        dom = opened(page, tmp_path / "profile")
        runs = not (escapes or has_policy)
        assert ("<owned>" in dom) == runs
        assert runs or not listener.asked
        assert "document.createElement" in dom
        if runs:
            break
        if escapes:
            assert not {"img", "iframe", "owned"} & {*read(dom).tags()}


@pytest.mark.skipif(BROWSER is None, reason="no chromium: install it, such as apt install chromium")
def test_the_listener_hears_what_a_page_asks_for(tmp_path, listener):
    page = tmp_path / "page.html"
    page.write_text(f'<img src="http://127.0.0.1:{listener.server_address[1]}/image">')
    opened(page, tmp_path / "profile")
    assert listener.called.wait(20)


def careless(environment: Environment) -> Environment:
    environment.autoescape = False
    return environment


def test_a_card_is_text_on_the_page_and_only_https_links():
    card = parse_card(
        b'paper: {title: "<b>Bold</b>", url: "https://example.org/x"}\nextra_data: images'
    )
    files = render(Material(boards=[board(standing(checkpoint=record("n", paper=card)))]))
    page = files["checkpoints/n.html"].decode()
    assert "&lt;b&gt;Bold&lt;/b&gt;" in page
    assert '<a href="https://example.org/x" rel="noopener noreferrer">' in page
    assert "<dt>extra data</dt> <dd>images</dd>" in page
    plain = parse_card(b"paper: {url: 'http://example.org/x'}")
    files = render(Material(boards=[board(standing(checkpoint=record("n", paper=plain)))]))
    assert 'href="http:' not in files["checkpoints/n.html"].decode()


CONTROLS = "a\x1b[2J\x1b]0;owned\x07\x9b31m\x08\r\x00\u202eb\x7f\ud800"
LINES = ("\x1b", "\x07", "\x9b", "\x08", "\r", "\x00", "\u202e", "\x7f")


@pytest.fixture
def controlled(tmp_path: Path) -> Path:
    write_database(tmp_path / "hostile.db", CONTROLS)
    return tmp_path / "hostile.db"


def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> str:
    """What the program prints, with the exit code that a person gets."""
    monkeypatch.setattr("sys.argv", ["harness", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in {0, 1, 2}
    printed = capfd.readouterr()
    return printed.out + printed.err


@pytest.mark.parametrize("command", ["list", "show", "missing", "compare"])
def test_no_control_character_of_a_database_reaches_the_terminal(
    controlled, command, capfd, monkeypatch, tmp_path
):
    with Store.open(controlled, read_only=True) as store:
        name = store.checkpoints()[0].name
    args = {
        "list": ("list", "checkpoints"),
        "show": ("show", name),
        "missing": ("show", f"{name}nobody"),
        "compare": ("results", "compare", str(controlled)),
    }[command]
    printed = said(capfd, monkeypatch, *args, "--db", str(controlled))
    assert "[2J" in printed or command == "compare"
    assert not [one for one in LINES if one in printed]


def test_no_page_holds_a_control_character_of_a_database(controlled, tmp_path):
    kinds = []
    for page in build_site(controlled, tmp_path / "site"):
        text = page.read_text("utf-8")
        assert not [one for one in LINES if one in text]
        kinds += [page.parent.name] if "\ufffd[2J" in text else []
    assert (kinds.count("site"), kinds.count("boards"), kinds.count("checkpoints")) >= (1, 1, 2)


def test_a_text_without_end_is_cut_on_a_page():
    row = standing(checkpoint=record("n", defense="x" * 3_000_000))
    assert len(render(Material(boards=[board(row)]))["index.html"]) < 200_000


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "＝1"])
def test_no_cell_of_the_csv_export_is_a_formula(start):
    row = standing(checkpoint=record(start, defense=start, architecture=start, scale=start))
    rows = list(csv.DictReader(io.StringIO(as_csv([board(row)]), newline="")))
    for column in ("checkpoint", "defense", "architecture", "scale"):
        assert rows[0][column] == f"'{start}"
    assert float(rows[0]["adaptive_gap"]) == pytest.approx(row.adaptive_gap)


def test_no_text_ends_a_line_of_the_csv_export():
    text = as_csv([board(standing(checkpoint=record("a\r=1,2", defense='"\r\n-1')))])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["checkpoint"], row["defense"]) == ("a\ufffd=1,2", '"\ufffd\n-1')


def test_exports_of_a_hostile_database_are_whole_files(controlled, tmp_path, capfd, monkeypatch):
    for name in ("boards.json", "boards.csv"):
        said(capfd, monkeypatch, "results", "export", str(tmp_path / name), "--db", str(controlled))
    boards = json.loads((tmp_path / "boards.json").read_text("utf-8"))["boards"]
    assert boards[0]["standings"]
    with (tmp_path / "boards.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(boards[0]["standings"])


LOOK_ALIKES = (
    *(
        "a",
        "A",
        "a.",
        "a ",
        "a\x00",
        "\u0430",
        "\u00e5",
        "a\u030a",
        "\u212b",
        "../a",
        "/a",
        "a/",
        "a\\",
    ),
    *("con", "CON", "aux.html", "com1", "lpt9.txt", "nul.", ".", "..", "", "~", "a" * 80, "a" * 81),
    *(
        "a" * 4000,
        "-a",
        "%2e%2e%2fa",
        "\ufb01",
        "fi",
        "\u017f",
        "s",
        "\u0131",
        "i",
        "\udcff",
        "C:a",
    ),
)


def test_no_two_names_share_a_page_on_any_file_system():
    folded = {unicodedata.normalize("NFKC", slug(name)).casefold() for name in LOOK_ALIKES}
    assert len(folded) == len(LOOK_ALIKES)
    for name in LOOK_ALIKES:
        assert re.fullmatch(r"[a-z0-9._~-]{1,80}", slug(name))
        assert slug(name).split(".")[0] not in {"con", "aux", "nul", "com1", "lpt9", ""}


@given(names=st.sets(st.text(max_size=90), min_size=2, max_size=4))
@settings(max_examples=200)
def test_any_two_names_have_pages_of_their_own(names):
    pages = {slug(name) for name in names} | {slug(name.upper()) for name in names}
    assert len(pages) == len(names | {name.upper() for name in names})
    assert all(re.fullmatch(r"[a-z0-9._~-]{1,80}", page) for page in pages)


@pytest.mark.parametrize(
    "name", ["x'; DROP TABLE checkpoint; --", 'x" OR 1=1', "%", "_", "\x00", "x\ud800"]
)
def test_no_name_alters_a_query(controlled, name, capfd, monkeypatch):
    with Store.open(controlled) as store:
        before = store.checkpoints()
    for command in ("show", "remove"):
        said(capfd, monkeypatch, command, "--db", str(controlled), "--", name)
    with Store.open(controlled) as store:
        assert store.checkpoints() == before
        with pytest.raises(HarnessError, match="no checkpoint named"):
            store.find([name])
