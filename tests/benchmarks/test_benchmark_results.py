"""Results on disk: what was written is what is read, and nothing else is read."""

import json

import measured
import pytest

from benchmarks.reading import read_results
from benchmarks.results import Comparison, Run, Side, write_results
from harness.errors import HarnessError


@pytest.fixture
def written(tmp_path):
    """The file of a good run, as a JSON value that a test may spoil, and how to write it."""
    path = tmp_path / "results.json"
    write_results(path, {"cpu": measured.whole(measured.PEER, measured.MIXED)})
    value = json.loads(path.read_text())

    def spoil(*place, value=None, key=None):
        whole = json.loads(path.read_text())
        inner = whole
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
        path.write_text(json.dumps(whole))
        return path

    spoil.path, spoil.value = path, value
    return spoil


def test_what_was_written_is_what_is_read(tmp_path):
    step = Comparison("step", (Side("a", (1.5,), loss=-0.25), Side("b", note="not installed")))
    results = {
        "cpu": measured.whole(measured.PEER, measured.MIXED),
        "cuda": Run(measured.SETTING, {"training": (step,)}),
    }
    path = tmp_path / "results.json"
    write_results(path, results)
    assert read_results(path) == results
    first = path.read_bytes()
    write_results(path, dict(reversed(read_results(path).items())))
    assert path.read_bytes() == first


SIDE = ("runs", "cpu", "sections", "autoattack", 0, "sides", 0)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("format",), 2, "'format' must be the number 1"),
        (("format",), True, "'format' must be the number 1"),
        (("runs",), [], "'runs' must be an object of cpu, cuda, large"),
        (("runs", "tpu"), {}, "'runs' must be an object of cpu, cuda, large"),
        (("runs", "cpu"), {}, "a run must be an object of setting, sections"),
        (("runs", "cpu", "sections", "secret"), [], "'sections' must be an object of"),
        (("runs", "cpu", "sections", "autoattack"), "x", "a section must be a list"),
        (("runs", "cpu", "setting", "threads"), 2.5, "'threads' must be a whole number"),
        (("runs", "cpu", "setting", "threads"), -1, "'threads' must be a whole number"),
        (("runs", "cpu", "setting", "clean"), True, "'clean' must be a whole number"),
        (("runs", "cpu", "setting", "commit"), "x" * 401, "'commit' must be a text of at most"),
        (("runs", "cpu", "setting", "versions"), ["a"], "'versions' must be an object of texts"),
        (("runs", "cpu", "setting", "versions", "torch"), 3, "'torch' must be a text"),
        ((*SIDE[:-1],), [], "'sides' must be a list of one or more"),
        ((*SIDE, "seconds"), [0], "'seconds' must be a list of positive numbers"),
        ((*SIDE, "seconds"), [-1.0], "'seconds' must be a list of positive numbers"),
        ((*SIDE, "seconds"), [float("nan")], "'seconds' must be a number"),
        ((*SIDE, "seconds"), ["1"], "'seconds' must be a number"),
        ((*SIDE, "seconds"), [10**400], "'seconds' must be a number"),
        ((*SIDE, "outcomes"), "01<", "'outcomes' must be a text of 0 and 1"),
        ((*SIDE, "points"), 2**63, "'points' must be a whole number"),
        ((*SIDE, "loss"), float("inf"), "'loss' must be a number"),
        ((*SIDE, "more"), 1, "a side must be an object of name, seconds"),
    ],
)
def test_a_file_of_somebody_else_ends_in_one_sentence(place, value, sentence, written):
    with pytest.raises(HarnessError) as caught:
        read_results(written(*place, value=value))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"format": 1}', "7", "\x00"])
def test_a_file_that_is_no_results_at_all_ends_in_one_sentence(text, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(HarnessError, match="make bench"):
        read_results(path)


def test_bytes_that_are_no_text_and_no_file_end_in_one_sentence(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(HarnessError, match="cannot read"):
        read_results(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HarnessError, match="is no JSON"):
        read_results(path)
