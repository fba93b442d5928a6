"""`harness show` and `harness site`: how well a number is founded."""

from __future__ import annotations

import re

from harness.identity import Finding
from harness.store.store import Store


def _record(folder, *found: tuple[str, str, str]) -> None:
    with Store.open(folder / "results.db") as store:
        (plan,) = {
            (plan.images, plan.threat)
            for plan in store.plans()
            if plan.checkpoint == store.checkpoint("gated").digest
        }
        for identity, state, note in found:
            store.record_finding(
                Finding(
                    *(store.checkpoint("gated").digest, "digits", *plan, 0, 10),
                    *(identity, state, 4.5, "amber: > 1 point"),
                    proof=(1, 4),
                    note=note,
                )
            )


def test_show_says_the_level_what_is_lacking_and_what_diagnostics_found(stored, harness):
    before = harness("show", "gated").out
    assert "Evidence level: E1" in before
    assert "lacking: diagnostics not run: D01, D02" in before
    assert "D01 " not in before  # the evaluation itself ends with D20 and D21 only
    _record(stored, ("D01", "red", "more right than there were"), ("I3", "not_run", "no trace"))
    after = harness("show", "gated").out
    assert "Diagnostics: " in after
    assert "red: D01" in after
    line = next(line for line in after.splitlines() if line.startswith("D01"))
    assert line.split()[:7] == ["D01", "Accuracy", "rises", "under", "attack", "red", "4.5"]
    assert line.split()[7:] == ["2", "more", "right", "than", "there", "were"]
    assert "not run" in next(line for line in after.splitlines() if line.startswith("I3"))


def test_show_has_no_percentage_for_a_model_that_failed_on_its_clean_images(add, harness):
    add("broken", "nan")
    assert harness("eval", "broken", "--examples", 5, "--workers", 1).code == 1
    (line,) = (line for line in harness("show", "broken").out.splitlines() if "  -  " in line)
    assert line.split()[:6] == ["broken", "-", "0", "-", "-", "-"]


def test_show_without_a_diagnostic_says_what_to_run(add, harness):
    add("fine", "build")
    harness("eval", "fine", "--attacks", "fgsm", "--examples", 5, "--workers", 1)
    shown = harness("show", "fine").out
    assert "Evidence level: none" in shown
    assert "lacking: the standard protocol is not complete" in shown
    assert "No diagnostic was run. Next: harness diagnose fine" in shown


def test_the_site_shows_findings_of_the_database(stored, harness):
    _record(stored, ("D01", "red", "more <b>right</b> than there were"))
    harness("site")
    page = (stored / "site" / "checkpoints" / "gated.html").read_text()
    assert "more &lt;b&gt;right&lt;/b&gt; than there were" in page
    index = (stored / "site" / "index.html").read_text()
    assert re.search(r'<b class=red title="D01[D0-9, ]*">\d red</b>', index)


def test_the_site_shows_corruptions_of_the_database(stored, harness):
    once = ("--corruptions", "contrast", "--severities", "1", "--examples", 5, "--workers", 1)
    assert harness("corrupt", "gated", *once).code == 0
    harness("site")
    page = (stored / "site" / "checkpoints" / "gated.html").read_text()
    assert "Another threat, not in the union" in page
    assert "1 of 75 accuracies are measured" in page
