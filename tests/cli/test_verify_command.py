"""`harness verify`: stored bits found again, and what is said where they are not."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.attacks.attack import attack_spec
from harness.data import load
from harness.store.bits import pack, unpack
from harness.store.kept import kept_folder, read_note, write_images, write_note
from harness.store.store import Store

QUICK = ("--workers", 1, "-q")


def _outcomes() -> list:
    with Store.open(read_only=True) as store:
        return store.outcomes(store.checkpoint("plain").digest)


def _broken_outcome(attack: str = "pgd"):
    return next(one for one in _outcomes() if one.job.attack.attack == attack)


def _set_bit(home: Path, index: int, *, broken: bool) -> None:
    """Let the first slice of pgd say something else about one image."""
    with closing(sqlite3.connect(home / "results.db")) as connection:
        (number, bits) = connection.execute(
            "SELECT outcome.id, broken FROM outcome JOIN attack ON attack.id = attack_id "
            "WHERE attack.name = 'pgd' AND first = 0"
        ).fetchone()
        changed = unpack(bits, 100)
        changed[index] = broken
        connection.execute("UPDATE outcome SET broken = ? WHERE id = ?", (pack(changed), number))
        connection.commit()


def test_every_stored_bit_is_found_again(small, harness):
    found = harness("verify", "plain", "--whole", "--json", *QUICK)

    assert found.code == 0
    said = found.json()
    attacked = sum(sum(one.attacked) for one in _outcomes())
    assert said["compared"] == said["agreeing"] == attacked
    assert [one["attack"] for one in said["attacks"]] == [
        "none@logits:none",
        "pgd(steps=3)@logits:ce",
        "fgsm@logits:ce",
    ]


def test_a_sample_is_drawn_by_its_seed_and_keeps_its_indices(small, harness):
    first, same, other = (
        harness("verify", "plain", "--sample", 7, "--seed", seed, "--json", *QUICK).json()
        for seed in (3, 3, 4)
    )
    clean = first["attacks"][0]

    assert first == same
    assert (clean["compared"], clean["agreeing"]) == (7, 7)
    assert first["agreeing"] == first["compared"] > 7
    assert other["agreeing"] == other["compared"]


def test_a_bit_that_was_changed_is_named_and_gives_exit_code_1(small, harness):
    outcome = _broken_outcome()
    index = next(i for i, hit in enumerate(outcome.broken) if hit)
    _set_bit(small, index, broken=False)

    found = harness("verify", "plain", "--whole", "--workers", 1)

    assert found.code == 1
    line = next(line for line in found.out.splitlines() if "pgd" in line)
    assert line.split()[-1] == str(index)


def test_one_attack_can_be_chosen_by_label_or_as_for_eval(small, harness):
    for text in ("pgd(steps=3)@logits:ce", "pgd(steps=3)"):
        (line,) = harness("verify", "plain", "--attack", text, "--json", *QUICK).json()["attacks"]
        assert line["attack"] == "pgd(steps=3)@logits:ce"

    refused = harness("verify", "plain", "--attack", "pgd(steps=4)", *QUICK)
    assert refused.code == 2
    assert "no stored attack is 'pgd(steps=4)'" in refused.err
    assert "fgsm@logits:ce" in refused.err


def test_nothing_is_written_to_the_database(small, harness):
    before = (small / "results.db").read_bytes()

    assert harness("verify", "plain", *QUICK).code == 0
    assert (small / "results.db").read_bytes() == before


def test_without_its_weights_a_row_cannot_be_checked(small, harness):
    shutil.rmtree(small / "checkpoints")

    found = harness("verify", "plain", *QUICK)

    assert found.code == 2
    assert "the weights of 'plain' are not here" in found.err
    assert "Traceback" not in found.err


def test_weights_with_a_flipped_bit_are_not_run(small, harness):
    with Store.open(read_only=True) as store:
        weights = small / "checkpoints" / store.checkpoint("plain").weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    found = harness("verify", "plain", *QUICK)

    assert found.code == 2
    assert "recorded is" in found.err


def test_other_test_images_cannot_check_a_row(small, harness):
    with closing(sqlite3.connect(small / "results.db")) as connection:
        connection.execute("UPDATE images SET sha256 = ?", ("0" * 64,))
        connection.commit()

    found = harness("verify", "plain", *QUICK)

    assert found.code == 2
    assert "the test images of digits here are others" in found.err


def test_an_attack_in_parity_mode_is_run_on_whole_slices(small, harness):
    attack = "apgd_ce(steps=2,parity=True)"
    stored = harness("eval", "plain", "--attack", attack, "--examples", 30, *QUICK)
    assert stored.code == 0
    (line,) = harness(
        "verify", "plain", "--attack", attack, "--sample", 10, "--json", *QUICK
    ).json()["attacks"]
    (outcome,) = (one for one in _outcomes() if one.job.attack.attack == "apgd_ce")

    assert attack_spec("apgd_ce", steps=2, parity=True).hash == outcome.job.attack.hash
    assert line["compared"] == sum(outcome.attacked) > 10
    assert line["agreeing"] == line["compared"]


# Kept images


def test_kept_images_are_judged_again_without_the_attack(small, harness):
    kept = [read_note(kept_folder(Path("checkpoints")), o.job, "uint8") for o in _outcomes()]
    images = sum(len(one.images) for one in kept if one is not None)

    found = harness("verify", "plain", "--kept", "--json", *QUICK)

    assert found.code == 0
    assert found.json()["compared"] == found.json()["agreeing"] == images > 0


def test_what_is_kept_or_lost_is_all_that_was_broken(small):
    for outcome in _outcomes():
        kept = read_note(kept_folder(Path("checkpoints")), outcome.job, "uint8")
        if outcome.job.attack.attack == "none":
            assert kept is None
            continue
        broken = {outcome.job.first + i for i, hit in enumerate(outcome.broken) if hit}
        assert set(kept.images) | set(kept.lost) == broken


def _tamper(home: Path, change) -> None:
    """Change one file of kept images and let its note and name follow, as a forger would."""
    folder = kept_folder(Path("checkpoints"))
    for outcome in _outcomes():
        kept = read_note(folder, outcome.job, "uint8")
        if kept is not None and kept.images:
            break
    pixels = np.load(folder / f"{kept.sha256}.npy")
    changed = change(pixels.copy(), kept, outcome)
    write_note(folder, outcome.job, replace(kept, sha256=write_images(folder, changed)))


def test_a_kept_image_that_was_replaced_by_its_clean_one_is_found(small, harness):
    def heal(pixels, kept, _):
        pixels[0] = load("digits", "test").images[kept.images[0]].numpy()
        return pixels

    _tamper(small, heal)
    found = harness("verify", "plain", "--kept", "--json", *QUICK)

    assert found.code == 1
    assert sum(len(line["differing"]) for line in found.json()["attacks"]) == 1


def test_a_kept_image_outside_the_ball_is_found(small, harness):
    def leave(pixels, *_):
        pixels[0] = 255 - pixels[0]
        return pixels

    _tamper(small, leave)
    assert harness("verify", "plain", "--kept", *QUICK).code == 1


def test_a_kept_file_with_a_flipped_bit_is_not_read(small, harness):
    file = next(kept_folder(Path("checkpoints")).glob("*.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    found = harness("verify", "plain", "--kept", *QUICK)

    assert found.code == 2
    assert "were changed or damaged" in found.err


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_keeping_images_changes_no_bit_and_runs_each_stored_slice_once(small, harness, dtype):
    attacks = ("--attack", "pgd(steps=3)", "--attack", "fgsm", "--examples", 120)
    before = str(_outcomes())
    shutil.rmtree(kept_folder(Path("checkpoints")))

    command = ("eval", "plain", *attacks, "--workers", 1, "--keep-adversarial", dtype)
    assert harness(*command).code == 0
    first = {file.name for file in kept_folder(Path("checkpoints")).glob("*.npy")}
    again = harness(*command)

    assert str(_outcomes()) == before
    assert len(first) > 0
    assert "nothing to do" in again.err
    assert harness("verify", "plain", "--kept", *QUICK).code == 0
    types = {np.load(kept_folder(Path("checkpoints")) / name).dtype.name for name in first}
    assert types == {dtype}


def test_removing_a_checkpoint_removes_what_is_kept_of_it(small, harness):
    assert harness("remove", "plain", "-q").code == 0
    assert [*kept_folder(Path("checkpoints")).rglob("*.*")] == []


def test_a_disk_that_is_full_while_images_are_kept_blames_no_model(small, harness, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.store.kept.replace_file", full)
    command = ("eval", "plain", "--attacks", "mim", "--examples", 5, *QUICK)
    found = harness(*command, "--keep-adversarial", "uint8")

    assert found.code == 2
    assert "No space left on device" in found.err
    with Store.open(read_only=True) as store:
        assert store.failures() == []


# Other kinds of rows


def test_a_model_from_elsewhere_is_found_again_too(small, harness, add):
    assert add("foreign", "chatty").code == 0
    assert harness("eval", "foreign", "--attacks", "fgsm", "--examples", 20, *QUICK).code == 0

    found = harness("verify", "foreign", "--whole", "--json", *QUICK)

    assert found.code == 0, found.err
    clean, attacked = found.json()["attacks"]
    assert clean["compared"] == clean["agreeing"] == 20
    assert attacked["compared"] == attacked["agreeing"]
    assert harness("results", "verify").code == 0


def test_corrupted_images_are_found_again_too(small, harness):
    corruption = ("--corruptions", "brightness", "--severities", 2, "--examples", 20)
    assert harness("corrupt", "plain", *corruption, *QUICK).code == 0

    attack = "brightness@logits:none"
    found = harness("verify", "plain", "--attack", attack, "--whole", "--json", *QUICK)

    assert found.code == 0, found.err
    assert found.json()["compared"] == found.json()["agreeing"] == 20
    assert harness("results", "verify").code == 0


def test_every_stage_of_an_adaptive_evaluation_is_found_again(stored, harness):
    found = harness("verify", "--all", "--sample", 3, "--json", *QUICK)

    assert found.code == 0, found.err
    lines = found.json()["attacks"]
    assert found.json()["compared"] > len(lines) > 20
    assert any(line["attack"].partition("@")[2].startswith("surrogate(") for line in lines)
    assert any(line["population"].startswith("survivors:") for line in lines)
