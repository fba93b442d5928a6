"""Progress: a bar on a terminal, plain lines elsewhere, nothing when quiet; never on stdout."""

from __future__ import annotations

import io
import re
import sys

import pytest

from harness.cli import progress
from harness.cli.progress import CampaignDisplay, Display, TrainingDisplay


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self) -> bool:
        return True


def looked_at(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; in the test itself, since pytest puts its own back before it."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def test_a_terminal_gets_a_bar_and_lines_that_stand_alone(monkeypatch, capsys):
    terminal = looked_at(monkeypatch)
    with Display(quiet=False) as display:
        display.advance("training", 3, 11)
        display.line("one line with [brackets]")
    lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()))

    assert "one line with [brackets]" in lines
    assert "3/11" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_elsewhere_there_are_plain_lines_every_half_minute(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Display(quiet=False) as display:
        for second in range(100):
            now[0] = 100.0 + second
            display.advance("attacking", second, 100)

    assert capsys.readouterr().err.splitlines() == [
        "attacking: 31 of 100",
        "attacking: 62 of 100",
        "attacking: 93 of 100",
    ]


def test_quiet_shows_neither_bar_nor_line(monkeypatch, capsys):
    terminal = looked_at(monkeypatch)
    with Display(quiet=True) as display:
        display.advance("training", 3, 11)
        display.line("one line")

    assert capsys.readouterr().out + terminal.getvalue() == ""


def test_training_says_where_it_goes_on(capsys):
    with Display(quiet=False) as display:
        report = TrainingDisplay(display, "run")
        report.started(3, 11, 11)
        report.stepped(2, 11, 0.5)
        report.finished_epoch(2, 0.51234, 1.25)

    assert capsys.readouterr().err.splitlines() == [
        "run: goes on after 11 of 33 steps",
        "run: epoch 2/3  loss 0.5123  1.2 s",
    ]


def test_a_campaign_counts_over_its_stages(monkeypatch):
    terminal = looked_at(monkeypatch)
    with Display(quiet=False) as display:
        report = CampaignDisplay(display)
        for stage in (2, 3):
            report.planned(stage)
            for _ in range(stage):
                report.done("pgd@logits:ce", 1.0)

    assert report.pieces == 5
    assert "5/5" in terminal.getvalue()


def test_results_stay_clean_while_a_bar_is_shown(stored, harness, monkeypatch):
    terminal = looked_at(monkeypatch)
    found = harness("eval", "plain", "--adaptive", "--examples", 12, "--workers", 1, "--json")

    assert found.json()[0]["examples"] == 12
    assert "/" in terminal.getvalue()
