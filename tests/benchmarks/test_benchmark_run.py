"""Every comparison end to end, on a few digits and in few steps."""

import dataclasses
import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import peers
from benchmarks.autoattack import Depth, autoattack
from benchmarks.equality import equality
from benchmarks.pgd import pgd
from benchmarks.reading import read_results
from benchmarks.setting import MISSING, Compared, compared, setting_of, versions
from benchmarks.training import REFERENCE, trades_as_published, training
from harness.attacks.streams import generator
from harness.data import DATASETS, load
from harness.errors import HarnessError
from harness.identity import Capabilities, CheckpointRecord
from harness.models.weights import write_weights
from harness.store.store import Store
from harness.training.loop import Training
from harness.training.request import training_request

COUNT, ROUNDS = 4, 2
FAR = 30
"""Times as far a start: close to the image the divergence is nothing but rounding."""
DEPTH = Depth(steps=3, targets=2, queries=6, few=3)
ATTACKS = ["apgd_ce", "apgd_t", "fab_t", "square"]


def tiny(precision="float32"):
    """TRADES on digits, a net of width 2, batches of 8, attacks of two steps."""
    settings = {"width": 2, "batch_size": 8, "inner_steps": 2, "precision": precision}
    return training_request("trades", DATASETS["digits"], settings=settings)


@pytest.fixture(scope="session")
def digits():
    return load("digits", "train")


@pytest.fixture(scope="session")
def database(tmp_path_factory, digits):
    """A database with one checkpoint that a few steps have trained."""
    folder = tmp_path_factory.mktemp("compared")
    settings = {"width": 4, "batch_size": 64, "learning_rate": 0.5}
    request = training_request("standard", DATASETS["digits"], settings=settings)
    run = Training(request, digits, folder, "cpu")
    for step in range(20):
        run.step(0, step, run.order(0))
    weights, sha256 = write_weights(run.players.network.state_dict(), folder / "checkpoints")
    record = CheckpointRecord(
        name="few_steps",
        digest="d" * 64,
        kind="trained",
        dataset="digits",
        threat=request.threat,
        weights=weights,
        weights_sha256=sha256,
        capabilities=Capabilities(10, features=True, training_loss=True),
        defense="standard",
        settings=dict(request.settings),
        architecture=request.architecture,
        architecture_settings=dict(request.architecture_settings),
        recipe=request.recipe.to_json(),
        parameters=1,
    )
    with Store.open(str(folder / "x.db")) as store:
        store.add_checkpoint(record)
    return folder / "x.db"


@pytest.fixture
def model(database, monkeypatch):
    monkeypatch.delenv("HARNESS_CHECKPOINTS", raising=False)
    return compared("few_steps", database, COUNT, device="cpu", rounds=ROUNDS)


def test_both_sides_get_the_same_function(model):
    with torch.no_grad():
        theirs = model.peers(model.images)
        torch.testing.assert_close(model.subject.model(model.images).logits, theirs)
    assert torch.equal(theirs.argmax(1) == model.labels, model.right)
    assert all(parameter.requires_grad for parameter in model.peers.parameters())
    assert not any(p.requires_grad for p in model.subject.model.module.parameters())
    assert not any(module.training for module in model.peers.modules())


def test_autoattack_is_compared_part_by_part_and_whole(model):
    found = autoattack(model, DEPTH)
    assert [comparison.work for comparison in found] == ["clean", *ATTACKS, "whole"]
    *parts, whole = found
    for name in ("pyautoattack", "folded", "mixed"):
        sides = [comparison.side(name) for comparison in parts]
        assert all(len(side.seconds) == ROUNDS for side in sides)
        for number in range(ROUNDS):
            total = sum(side.seconds[number] for side in sides)
            assert whole.side(name).seconds[number] == pytest.approx(total)
        union = [max(one) for one in zip(*(side.outcomes for side in sides), strict=True)]
        assert whole.side(name).outcomes == "".join(union)
        standing = COUNT
        for side in sides:  # each attacks what those before it have left
            assert side.points == standing
            standing -= side.broken
    assert len(whole.side("float32").seconds) == 1
    clean = parts[0]
    assert {side.outcomes for side in clean.sides} == {
        "".join("0" if right else "1" for right in model.right)
    }


def test_quick_is_two_parts_and_few_queries(model):
    *parts, whole = autoattack(model, DEPTH)
    quick = whole.side("quick")
    shared = [c.side("mixed") for c in parts if c.work in {"clean", "apgd_ce", "apgd_t"}]
    survivors = COUNT - sum(side.broken for side in shared)
    done = sum(side.forwards for side in shared)
    assert done < quick.forwards <= done + survivors * DEPTH.few or survivors == 0
    assert quick.backwards == sum(side.backwards for side in shared)
    for number, seconds in enumerate(quick.seconds):  # that of its first parts, which ran once
        assert seconds > sum(side.seconds[number] for side in shared)


def test_a_folded_search_finds_what_the_search_as_loaded_finds(model):
    for comparison in equality(model, DEPTH, steps=3):
        as_loaded, folded, mixed = comparison.sides
        assert [side.name for side in comparison.sides] == ["float32", "folded", "mixed"]
        assert folded.differ(as_loaded) == 0
        assert mixed.points == as_loaded.points == int(model.right.sum())


def test_pgd_counts_the_passes_of_every_side(model):
    (comparison,) = pgd(model, steps=3)
    assert len(comparison.sides) == 5
    for name in ("torchattacks", "foolbox"):
        side = comparison.side(name)
        if model.without(name):
            assert (side.note, side.seconds) == (MISSING, ())
            continue
        assert side.backwards == 3 * COUNT
        assert side.forwards >= 4 * COUNT  # three steps and the look that judges
        assert len(side.outcomes) == COUNT
    last = comparison.side("folded, last iterate")
    assert (last.forwards, last.backwards) == ((1 + 3 + 1 + 1) * COUNT, 3 * COUNT)
    assert comparison.side("mixed, any iterate").forwards < last.forwards


def test_batches_change_no_outcome_and_no_count_of_ours(model):
    halves = dataclasses.replace(model, batch=2)
    for one, other in zip(autoattack(model, DEPTH), autoattack(halves, DEPTH), strict=True):
        whole, cut = one.side("folded"), other.side("folded")
        assert (whole.outcomes, whole.forwards) == (cut.outcomes, cut.forwards)
        assert len(other.side("pyautoattack").outcomes) == COUNT


def test_a_peer_that_is_missing_is_named(model, monkeypatch):
    monkeypatch.setattr(Compared, "without", lambda self, peer: MISSING)
    whole = autoattack(model, DEPTH)[-1]
    assert (whole.sides[0].name, whole.sides[0].note) == ("pyautoattack", MISSING)
    assert whole.side("mixed").seconds
    with pytest.raises(HarnessError, match="no_such_peer is not installed: make bench"):
        peers.imported("no_such_peer")
    assert set(versions()) == {"python", "torch", "pyautoattack", "torchattacks", "foolbox"}


def test_alone_leaves_peers_out_and_says_so(model):
    alone = dataclasses.replace(model, alone=True)
    whole = autoattack(alone, DEPTH)[-1]
    names = [side.name for side in whole.sides]
    assert names == ["pyautoattack", "folded", "mixed", "quick"]
    assert whole.sides[0].note == "left out"
    (comparison,) = pgd(alone, steps=1)
    assert [side.note for side in comparison.sides[:2]] == ["left out", "left out"]


def test_the_authors_order_of_work_takes_the_passes_that_it_is_said_to_take(digits):
    """Of two inner steps: 2 x (candidate, clean) and 3 forward; 2 and 3 back, as 39 of PGD-10."""
    (comparison,) = training(tiny, digits, ROUNDS, "cpu")
    reference = comparison.side(REFERENCE)
    assert (reference.forwards, reference.backwards) == ((2 * 2 + 3) * 8, (2 + 3) * 8)
    for precision in ("float32", "bfloat16"):
        ours = comparison.side(precision)
        assert len(ours.seconds) == ROUNDS
        assert ours.forwards < reference.forwards
        assert ours.loss == pytest.approx(reference.loss, rel=0.2)


def test_the_authors_step_from_the_same_start_is_ours(digits, tmp_path, monkeypatch):
    """A second implementation: the same loss and the same new weights, up to rounding."""
    request = tiny()
    ours, theirs = (Training(request, digits, tmp_path, "cpu") for _ in range(2))
    for run in (ours, theirs):  # within the box, where the authors' start is not clipped either
        run.images = run.images.clamp(60, 195)
    order = ours.order(0)
    images, labels = theirs.images[order[:8]].float() / 255, theirs.labels[order[:8]]
    real = torch.randn
    draws = generator(request.seed, "attack", 0, 0)
    draw = FAR * real(images.shape, generator=draws)
    monkeypatch.setattr(torch, "randn_like", lambda _: draw)
    monkeypatch.setattr(torch, "randn", lambda *given, **names: FAR * real(*given, **names))
    expected = float(ours.step(0, 0, order).loss)
    rate = ours.optimiser.param_groups[0]["lr"]
    theirs.optimiser.param_groups[0]["lr"] = rate
    network = theirs.players.network
    found = trades_as_published(network, theirs.optimiser, images, labels, theirs)
    assert found == pytest.approx(expected, rel=1e-4)
    pairs = zip(ours.players.network.parameters(), network.parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


def test_the_command_writes_results_and_page_and_goes_on_from_there(
    database, tmp_path, monkeypatch
):
    monkeypatch.delenv("HARNESS_CHECKPOINTS", raising=False)
    threads = torch.get_num_threads()
    out, page = tmp_path / "results.json", tmp_path / "page.md"
    words = ["--images", "2", "--rounds", "1", "--threads", "1", "--model", "few_steps"]
    words += ["--db", str(database), "--out", str(out), "--page", str(page)]
    runner = CliRunner()
    try:
        first = runner.invoke(command.main, [*words, "--only", "pgd"], catch_exceptions=False)
    finally:
        torch.set_num_threads(threads)
    assert first.exit_code == 0
    assert "pgd-40" in page.read_text()
    assert [*read_results(out)["cpu"].sections] == ["pgd"]
    assert str(tmp_path) not in out.read_text()
    page.unlink()
    again = ["--render", "--out", str(out), "--page", str(page)]
    assert runner.invoke(command.main, again, catch_exceptions=False).exit_code == 0
    assert "pgd-40" in page.read_text()


def test_sections_of_one_setting_stay_and_those_of_another_go(model):
    setting = setting_of(model, 1)
    both = command.with_section({}, setting, "pgd", ())
    both = command.with_section(both, setting, "equality", ())
    assert [*both["cpu"].sections] == ["pgd", "equality"]
    other = command.with_section(both, setting_of(model, 2), "pgd", ())
    assert [*other["cpu"].sections] == ["pgd"]
    many = dataclasses.replace(setting, images=1000)
    third = command.with_section(both, many, "pgd", ())
    assert {name: [*run.sections] for name, run in third.items()} == {
        "cpu": ["pgd", "equality"],
        "large": ["pgd"],
    }


def test_a_model_without_its_database_is_one_sentence():
    with pytest.raises(HarnessError, match="belong together"):
        command.main(["--model", "x"], standalone_mode=False)


def test_results_that_are_no_results_are_kept_and_said(tmp_path):
    out = tmp_path / "results.json"
    out.write_text(json.dumps({"mine": 1}))
    words = ["--render", "--out", str(out), "--page", str(tmp_path / "page.md")]
    with pytest.raises(HarnessError, match="holds no results"):
        command.main(words, standalone_mode=False)
    assert json.loads(out.read_text()) == {"mine": 1}
