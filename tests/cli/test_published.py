"""`make results` types commands that a reader can type, and finishes one file."""

import pytest
from click.testing import CliRunner

from harness.catalogue import DEFENSES
from harness.claims import claims
from harness.cli import harness as root
from harness.cli import published as module
from harness.errors import HarnessError
from harness.store.finished import is_finished
from harness.store.store import Store

STAGES = {"digits": module._digits, "cifar10": module._cifar10}
COMMANDS = [command for stage in STAGES.values() for group in stage() for command in group]


def test_every_command_can_be_typed():
    assert len(COMMANDS) > 6 * len(list(DEFENSES))
    for name, *words in COMMANDS:
        with root.commands[name].make_context(name, list(words)):
            pass


def test_every_defense_is_trained_with_three_seeds_and_seed_0_is_put_under_everything():
    trained = {words[1:6:2] for words in COMMANDS if words[0] == "train" and "digits" in words}
    assert trained == {(name, "digits", str(seed)) for name in DEFENSES for seed in (0, 1, 2)}
    for kind in ("eval", "diagnose", "analyse"):
        firsts = {words[1] for words in COMMANDS if words[0] == kind and "-s0" in words[1]}
        wanted = {f"{name}-digits-small_resnet-smoke-s0" for name in DEFENSES}
        assert firsts >= wanted, kind
    further = [
        words for words in COMMANDS if words[0] == "eval" and words[1].endswith(("s1", "s2"))
    ]
    assert len(further) == 2 * len(list(DEFENSES))
    assert all("adaptive_gradient" in words for words in further)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_nothing_is_attacked_before_every_surrogate_is_trained(name):
    kinds = [command[0] for group in STAGES[name]() for command in group]
    first = kinds.index("eval")

    assert set(kinds[:first]) == {"train"}
    assert "train" not in kinds[first:]


def test_thin_networks_are_those_that_the_catalogue_has():
    assert set(module.THIN) <= set(DEFENSES)


def test_names_are_those_that_training_gives(monkeypatch):
    from harness.data import dataset
    from harness.training.request import training_request

    made = {
        training_request(words[1], dataset(words[3]), seed=int(words[5])).name
        for words in COMMANDS
        if words[0] == "train" and words[3] == "digits"
    }
    evaluated = {words[1] for words in COMMANDS if words[0] == "eval" and "digits" in words[1]}
    assert evaluated == made


@pytest.fixture
def without_work(monkeypatch):
    """Stages that type nothing but `harness list` once, and once something wrong."""
    called = [[("list", "attacks")], [("list", "nonsense")]]
    monkeypatch.setattr(module, "_digits", lambda: called[:1])
    monkeypatch.setattr(module, "_cifar10", lambda: called[1:])
    monkeypatch.setenv("HARNESS_DB", "put back afterwards")


def run(folder, *more):
    words = ["--work", folder / "work", "--out", folder / "results.db", "--table", folder / "t.md"]
    return CliRunner().invoke(module.published, [str(word) for word in (*words, *more)])


def test_the_finished_file_holds_the_claims_and_the_page_is_written(without_work, tmp_path):
    found = run(tmp_path, "--only", "digits")
    assert found.exit_code == 0, found.output
    assert is_finished(tmp_path / "results.db")
    with Store.open(tmp_path / "results.db", read_only=True, create=False) as store:
        assert len(store.claims()) == len(claims()) == 1565
    assert (tmp_path / "t.md").read_text().startswith("# What was measured")
    again = run(tmp_path, "--only", "digits")
    assert "0 new claims" in again.output


def test_a_command_that_fails_is_named_and_the_rest_is_done(without_work, tmp_path):
    found = run(tmp_path)
    assert found.exit_code == 1
    assert "failed: harness list nonsense" in found.output
    assert "nothing was finished" in found.output
    assert not (tmp_path / "results.db").exists()


def test_a_database_of_somebody_s_own_is_not_replaced(without_work, tmp_path):
    Store.open(tmp_path / "results.db").close()
    before = (tmp_path / "results.db").read_bytes()
    found = run(tmp_path, "--only", "digits")
    assert isinstance(found.exception, HarnessError)
    assert "was not made by this program" in str(found.exception)
    assert not (tmp_path / "work").exists()  # said before hours of work
    assert (tmp_path / "results.db").read_bytes() == before
