"""`harness list`, `show`, `results`, `remove` and `site` on a small database."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from harness.identity import Gallery
from harness.store.store import Store

KINDS = {
    "defenses": {"standard", "pgd_at", "trades", "trades_ancra", "trades_frpat", "trades_he"},
    "attacks": {"fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "square"},
    "protocols": {"standard", "adaptive"},
    "datasets": {"digits", "cifar10", "cifar100", "tiny_imagenet", "fashion_mnist"},
    "architectures": {"resnet18", "preactresnet18", "wrn_28_10", "wrn_34_10", "wrn_34_20"},
    "checkpoints": {"plain", "gated"},
}


def _weights(folder) -> set[str]:
    return {file.name for file in (folder / "checkpoints").iterdir()}


# list and show


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_holds_what_the_first_version_promises(stored, harness, kind):
    rows = harness("list", kind, "--json").json()
    read = harness("list", kind)

    assert {row["name"] for row in rows} >= KINDS[kind]
    assert read.code == 0
    assert all(name in read.out for name in KINDS[kind])


def test_checkpoints_are_listed_with_their_exact_epsilon(stored, harness):
    gated, plain = harness("list", "checkpoints", "--json").json()

    assert (plain["defense"], plain["dataset"], plain["epsilon"]) == ("trades", "digits", "1/5")
    assert (gated["architecture"], gated["scale"]) == ("small_resnet", "smoke")


def test_an_empty_list_says_how_to_fill_it(harness):
    Store.open().close()

    assert "harness train" in harness("list", "checkpoints").out
    assert harness("list", "checkpoints", "--json").json() == []


@pytest.mark.parametrize("name", sorted(KINDS["defenses"]))
def test_show_tells_a_defense_with_its_settings(harness, name):
    found = harness("show", name)

    assert found.code == 0
    for word in (name, "Composition", "Settings (--set KEY=VALUE)", "Recipe"):
        assert word in found.out


def test_show_tells_a_checkpoint_with_all_its_attacks(stored, harness):
    found = harness("show", "gated")

    for word in ("trades_ancra on digits, linf 1/5", "apgd_ce(steps=2)@auxiliary(0):ce"):
        assert word in found.out


def test_show_says_what_failed_and_what_was_never_run(add, harness):
    add("broken", "failing")
    assert "Not evaluated yet" in harness("show", "broken").out
    harness("eval", "broken", "--attacks", "fgsm", "--examples", 5, "--workers", 1)

    assert "failed (raised)" in harness("show", "broken").out


# results


def test_what_is_exported_as_json_is_what_eval_says(stored, harness):
    assert harness("results", "export", "boards.json").code == 0
    (board,) = json.loads((stored / "boards.json").read_text())["boards"]
    rows = harness("eval", "--all", "--adaptive", "--examples", 10, "--json").json()
    exported = {standing["checkpoint"]: standing for standing in board["standings"]}

    assert (board["dataset"], board["epsilon"]) == ("digits", "1/5")
    assert exported.keys() == {row["name"] for row in rows}
    for row in rows:
        standing = exported[row["name"]]
        for rate in ("clean", "robust", "standard"):
            assert standing[rate]["fraction"] == row[f"{rate}_accuracy"]


def test_what_is_exported_as_csv_has_a_line_per_row(stored, harness):
    assert harness("results", "export", "boards.csv").code == 0
    with (stored / "boards.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]

    assert {line["checkpoint"] for line in lines} == {"plain", "gated"}
    assert all(0 <= float(line["robust_fraction"]) <= 1 for line in lines)


@pytest.mark.parametrize("name", ["boards.txt", "boards", ".json"])
def test_an_export_is_json_or_csv(stored, harness, name):
    found = harness("results", "export", name)

    assert found.code == 2
    assert ".json or .csv" in found.err
    assert not (stored / name).exists()


def test_two_machines_merge_into_one_database(stored, harness):
    shutil.copy(stored / "results.db", stored / "theirs.db")
    options = ("--attacks", "fgsm", "--examples", 30, "--workers", 1, "-q")
    harness("eval", "plain", *options, "--db", "theirs.db")
    harness("eval", "gated", *options)
    first, again = (harness("results", "merge", "theirs.db") for _ in range(2))

    assert (first.code, again.code) == (0, 0)
    assert "0 new checkpoints, 2 new outcomes" in first.out  # clean and fgsm, images 10 to 29
    assert "0 new checkpoints, 0 new outcomes" in again.out
    done = harness("eval", "--all", "--attacks", "fgsm", "--examples", 30, "--workers", 1)
    assert "nothing to do" in done.err


def test_a_merged_database_round_trips(stored, harness):
    assert harness("results", "merge", "results.db", "--db", "copy.db").code == 0
    for database, file in (("results.db", "ours.json"), ("copy.db", "copied.json")):
        harness("results", "export", file, "--db", database)

    assert (stored / "ours.json").read_text() == (stored / "copied.json").read_text()


def test_pictures_that_a_merge_brings_are_counted(stored, harness):
    shutil.copy(stored / "results.db", stored / "theirs.db")
    with Store.open(stored / "theirs.db") as theirs:
        (images,) = theirs.datasets()
        pictures = Gallery(images.name, images.sha256, (0, 1), (0, 1), (1, 1, 1), b"\x00\xff")
        theirs.record_gallery(pictures)
    first, again = (harness("results", "merge", "theirs.db") for _ in range(2))
    assert "1 galleries, 0 sets of adversarial pictures" in first.out
    assert "0 galleries, 0 sets of adversarial pictures" in again.out


def test_merging_what_is_not_there_makes_no_database(home, harness):
    found = harness("results", "merge", "theirs.db")

    assert found.code == 2
    assert "there is no file theirs.db" in found.err
    assert [*home.iterdir()] == []


def test_a_database_is_not_merged_into_itself(stored, harness):
    found = harness("results", "merge", "results.db")

    assert found.code == 2
    assert "very database" in found.err


# remove


def test_what_is_removed_is_forgotten_with_its_weights_and_nothing_else(stored, harness):
    with Store.open(read_only=True) as store:
        kept = set(store.checkpoint("gated").files)
    assert harness("remove", "plain").code == 0

    assert _weights(stored) == kept
    assert [row["name"] for row in harness("list", "checkpoints", "--json").json()] == ["gated"]
    assert harness("eval", "plain").code == 2
    assert harness("eval", "--all", "--adaptive", "--examples", 10, "-q").code == 0


def test_weights_that_another_name_needs_stay(add, harness, home):
    add("one")
    add("two")
    harness("remove", "one")
    assert len(_weights(home)) == 1
    harness("remove", "two")

    assert len(_weights(home)) == 0


def test_weights_that_cannot_be_deleted_are_named(stored, harness, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    found = harness("remove", "plain")

    assert found.code == 2
    assert "cannot be deleted: Permission denied" in found.err


def test_what_was_removed_can_be_trained_again(stored, harness):
    harness("remove", "plain")
    command = ("train", "trades", "--name", "plain", "--dataset", "digits", "--epochs", 1)

    assert harness(*command, "--set", "width=4", "--set", "inner_steps=1").code == 0


# site


def test_a_site_is_built_from_what_is_stored(stored, harness):
    found = harness("site", "--out", "page")
    index = (stored / "page" / "index.html").read_text()

    assert found.out.strip() == "page/index.html"
    assert "trades_ancra" in index
    assert "http://" not in index.replace("http://www.w3.org", "")


def test_the_site_goes_into_a_folder_of_its_own_by_default(stored, harness):
    assert harness("site").code == 0
    assert (stored / "site" / "index.html").is_file()


def test_bits_on_disk_and_numbers_on_the_page_come_from_one_place(stored, harness):
    harness("eval", "gated", "--adaptive", "--examples", 10, "--bits", "bits.npz")
    harness("results", "export", "boards.json")
    (board,) = json.loads((stored / "boards.json").read_text())["boards"]
    gated = next(s for s in board["standings"] if s["checkpoint"] == "gated")

    assert gated["robust"]["count"] == int(np.load("bits.npz")["robust"].sum())


# data


def test_digits_need_no_fetching(harness):
    found = harness("data", "fetch", "digits")

    assert found.code == 0
    assert "needs no files" in found.err
