"""Models from elsewhere: every way in which they fail to fit ends in a sentence."""

import pickle
import sys

import pytest
import torch
from evaluated_subjects import random_pixels
from torch import nn

from harness.data.digits import DIGITS
from harness.errors import HarnessError
from harness.evaluation.handle import Handle
from harness.evaluation.subject import load_subject
from harness.evaluation.third_party import (
    added_record,
    foreign_model,
    import_model,
    load_foreign_weights,
    probe,
)
from harness.models.weights import read_weights
from harness.outputs import Outputs

SOURCE = """
import torch
from torch import nn

NOT_CALLABLE = 3

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 64, classes)

    def forward(self, images):
        return self.head(self.body(images).view(images.size(0), -1))

def build():
    torch.manual_seed(0)
    return Net()

def two_classes():
    return Net(2)

def raises():
    raise KeyError("no such layer")

def leaves():
    raise SystemExit(2)

def returns_weights():
    return build().state_dict()

def needs_arguments(depth):
    return Net()
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "their_model.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def weights(file, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(import_model(f"{file}:build").module.state_dict(), path)
    return path


def test_a_callable_in_a_file_is_called(file):
    module = import_model(f"{file}:build").module
    assert isinstance(module, nn.Module)
    assert module(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_callable_of_an_installed_module_is_called():
    assert isinstance(import_model("torch.nn:Identity").module, nn.Identity)


def test_a_file_may_import_its_neighbours_and_leaves_the_search_path_as_it_was(tmp_path):
    (tmp_path / "their_layers_xyz.py").write_text("from torch import nn\nLayer = nn.Identity\n")
    path = tmp_path / "model.py"
    path.write_text("from their_layers_xyz import Layer\ndef build():\n    return Layer()\n")
    before = list(sys.path)
    assert isinstance(import_model(f"{path}:build").module, nn.Identity)
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NOT_CALLABLE", "has no callable 'NOT_CALLABLE'"),
        ("missing", "has no callable 'missing'"),
        ("raises", "raised KeyError: 'no such layer'"),
        ("leaves", "raised SystemExit: 2"),
        ("returns_weights", "returned a OrderedDict: it must return an nn.Module"),
        ("needs_arguments", "raised TypeError: .*depth"),
        ("not a name", "is no model: write FILE.py:CALLABLE"),
    ],
)
def test_a_callable_that_gives_no_module_is_refused(file, name, sentence):
    with pytest.raises(HarnessError, match=sentence):
        import_model(f"{file}:{name}")


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("", "is no model: write FILE.py:CALLABLE"),
        ("model.py", "is no model"),
        (":build", "is no model"),
        ("model.py:", "is no model"),
        ("nowhere/model.py:build", "there is no file .*nowhere/model.py"),
        ("no_such_package_xyz:build", "cannot import no_such_package_xyz"),
        (".relative:build", "cannot import .relative"),
        ("model.txt:build", "cannot import model.txt"),
        ("torch.nn:NoSuchLayer", "torch.nn has no callable 'NoSuchLayer'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference, sentence):
    with pytest.raises(HarnessError, match=sentence):
        import_model(reference)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def build(:", "fails on import: SyntaxError"),
        ("import no_such_package_xyz", "fails on import: ModuleNotFoundError"),
        ("1 / 0", "fails on import: ZeroDivisionError"),
        ("import sys; sys.exit(2)", "fails on import: SystemExit: 2"),
        ("import argparse; argparse.ArgumentParser().parse_args(['--x'])", "SystemExit: 2"),
    ],
)
def test_a_file_that_fails_on_import_is_refused_and_the_program_goes_on(tmp_path, source, sentence):
    path = tmp_path / "model.py"
    path.write_text(source)
    with pytest.raises(HarnessError, match=sentence):
        import_model(f"{path}:build")


def test_a_file_that_changed_since_it_was_added_is_refused(file):
    sha256 = import_model(f"{file}:build").sha256
    assert import_model(f"{file}:build", sha256).sha256 == sha256
    file.write_text(SOURCE + "\n# another line\n")
    with pytest.raises(HarnessError, match="was changed since the checkpoint was added"):
        import_model(f"{file}:build", sha256)


def test_a_neighbour_that_changed_is_refused_and_forgotten_like_the_file_itself(tmp_path):
    (tmp_path / "outer.py").write_text("from inner import build\n")
    (tmp_path / "inner.py").write_text(SOURCE)
    sha256 = import_model(f"{tmp_path}/outer.py:build").sha256
    assert not {"inner", "harness_model_outer"} & set(sys.modules)
    (tmp_path / "inner.py").write_text(SOURCE + "\n# another line\n")
    with pytest.raises(HarnessError, match="a file beside it that it imports, was changed"):
        import_model(f"{tmp_path}/outer.py:build", sha256)


def test_an_installed_module_has_a_digest_too():
    assert len(import_model("torch.nn:Identity").sha256) == 64
    with pytest.raises(HarnessError, match="cannot import no_such_package_xyz"):
        import_model("no_such_package_xyz:build")


def state(module):
    """The state dict with values of its own, so that loading it can be seen."""
    return {
        key: torch.full_like(value, index + 1)
        for index, (key, value) in enumerate(module.state_dict().items())
    }


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "net", "model"])
def test_weights_are_unwrapped_and_freed_of_data_parallel_prefixes(file, prefix, wrapper):
    module = import_model(f"{file}:build").module
    wanted = state(module)
    given = {prefix + key: value for key, value in wanted.items()}
    if wrapper:
        given = {wrapper: given, "epoch": 90, "optimizer": {"lr": 0.1}}
    load_foreign_weights(module, given, "theirs")
    for key, value in module.state_dict().items():
        assert torch.equal(value, wanted[key]), key


def test_a_module_that_is_called_module_keeps_its_prefix():
    module = nn.DataParallel(nn.Linear(2, 2))
    wanted = state(module)
    assert all(key.startswith("module.") for key in wanted)
    load_foreign_weights(module, wanted, "theirs")
    assert torch.equal(module.state_dict()["module.weight"], wanted["module.weight"])


def test_counters_of_batches_may_be_missing(file):
    module = import_model(f"{file}:build").module
    wanted = state(module)
    del wanted["body.1.num_batches_tracked"]
    load_foreign_weights(module, wanted, "theirs")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("head.bias"), r"1 missing \(head.bias\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (lambda s: s.update({"head.bias": torch.ones(3)}), r"1 of another shape \(head.bias\)"),
        (lambda s: s.clear(), r"missing \(body.0.weight, body.0.bias, body.1.weight, ...\)"),
        (lambda s: s.update(epoch=3), r"hold more than tensors: 1 these \(epoch\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_nothing_is_loaded(file, change, sentence):
    module = import_model(f"{file}:build").module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    given = state(module)
    change(given)
    with pytest.raises(HarnessError, match=sentence):
        load_foreign_weights(module, given, "theirs")
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_write_a_file_is_refused_and_not_run(tmp_path, how):
    target, path = tmp_path / "written", tmp_path / "weights.pt"
    if how == "torch":
        torch.save({"weight": Malicious(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Malicious(target)}))
    with pytest.raises(HarnessError, match="was not run"):
        read_weights(path)
    assert not target.exists()


class Foreign(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


def fails(error):
    def answer(_):
        raise error

    return answer


IMAGES = torch.full((2, 1, 4, 4), 0.5)


def logits(images, classes=10):
    return images.flatten(1)[:, :classes]


def test_a_plain_model_exposes_its_logits_alone():
    found = probe(Foreign(logits), IMAGES, 10)
    assert (found.classes, found.auxiliary, found.select) == (10, 0, False)
    assert (found.features, found.scale, found.training_loss) == (False, 1.0, False)


def test_outputs_tell_what_a_model_exposes():
    class Gated(nn.Module):
        def forward(self, images, *, select=None):
            z = logits(images)
            return Outputs(z, (z, z), images.flatten(1), 15.0)

    found = probe(Gated(), IMAGES, 10)
    assert (found.auxiliary, found.select, found.features, found.scale) == (2, True, True, 15.0)
    no_gate = probe(Foreign(lambda x: Outputs(logits(x), (logits(x),))), IMAGES, 10)
    assert (no_gate.auxiliary, no_gate.select) == (1, False)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: logits(x, 7), "returns 7 classes but the dataset has 10"),
        (lambda x: x, "expected .16, 10. floating point"),
        (lambda x: logits(x).argmax(1), "expected .16, 10. floating point"),
        (lambda x: (logits(x), x), "returned a tuple: expected logits"),
        (lambda x: logits(x)[:1], "expected .16, 10. floating point"),
        (lambda x: Outputs(logits(x), (logits(x, 3),)), "expected .16, 10. floating point"),
        (lambda x: Outputs(logits(x), logit_scale=float("nan")), "logit_scale is nan"),
        (lambda x: Outputs(logits(x), logit_scale=0.0), "logit_scale is 0.0"),
        (lambda x: Outputs(logits(x), logit_scale=1e9), "logit_scale is 1000000000.0"),
        (lambda x: Outputs(logits(x), logit_scale=torch.tensor(3.0)), "must be a plain number"),
        (fails(RuntimeError("size mismatch")), "cannot take images .2, 1, 4, 4.*size mismatch"),
        (fails(AssertionError("224 pixels")), "cannot take images .*224 pixels"),
        (fails(SystemExit("bye")), "cannot take images .*bye"),
        (fails(IndexError()), "cannot take images .*IndexError"),
        (fails(AttributeError("no attribute")), "cannot take images .*no attribute"),
    ],
)
def test_a_model_that_does_not_answer_as_it_should_is_refused_when_added(answer, sentence):
    with pytest.raises(HarnessError, match=sentence):
        probe(Foreign(answer), IMAGES, 10)


def test_an_added_model_decides_as_it_did_where_it_came_from(file, weights, tmp_path):
    record = added_record("theirs", f"{file}:build", weights, DIGITS, tmp_path / "kept")
    subject = load_subject(record, tmp_path / "kept", DIGITS)
    theirs = import_model(f"{file}:build").module.eval()
    images = random_pixels(1, 8, 8, count=20).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(subject.model(images).logits, theirs(images))
    assert type(subject.model) is Handle
    assert subject.training_loss is None
    assert record.capabilities == subject.capabilities
    assert record.parameters == sum(value.numel() for value in theirs.parameters())
    assert record.model == f"{file}:build"


def test_the_digest_follows_weights_source_callable_and_dataset(file, weights, tmp_path):
    def digest(reference="build"):
        return added_record("a", f"{file}:{reference}", weights, DIGITS, tmp_path).digest

    first = digest()
    assert digest() == first
    file.write_text(SOURCE + "\nalso_build = build\n")
    changed = digest()
    assert changed != first
    assert digest("also_build") != changed
    other = import_model(f"{file}:build").module
    with torch.no_grad():
        other.head.bias += 1
    torch.save(other.state_dict(), weights)
    assert digest() != changed


@pytest.mark.parametrize("name", ["two_classes", "raises"])
def test_a_model_that_does_not_fit_the_dataset_is_not_added(file, tmp_path, name):
    path = tmp_path / "weights.pt"
    their = "two_classes" if name == "two_classes" else "build"
    torch.save(import_model(f"{file}:{their}").module.state_dict(), path)
    with pytest.raises(HarnessError, match=r"2 classes but the dataset has 10|raised KeyError"):
        added_record("theirs", f"{file}:{name}", path, DIGITS, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_changed_missing_or_misplaced_files_of_a_checkpoint_are_sentences(file, weights, tmp_path):
    kept = tmp_path / "kept"
    record = added_record("theirs", f"{file}:build", weights, DIGITS, kept)
    with pytest.raises(HarnessError, match="the weights of 'theirs' are not here"):
        load_subject(record, tmp_path / "elsewhere", DIGITS)
    content = bytearray((kept / record.weights).read_bytes())
    content[-1] ^= 1
    (kept / record.weights).write_bytes(bytes(content))
    with pytest.raises(HarnessError, match="was changed or damaged"):
        load_subject(record, kept, DIGITS)
    content[-1] ^= 1
    (kept / record.weights).write_bytes(bytes(content))
    load_subject(record, kept, DIGITS)
    file.write_text(SOURCE + "\n")
    with pytest.raises(HarnessError, match="was changed since"):
        load_subject(record, kept, DIGITS)


def test_an_architecture_takes_the_public_layout_of_its_weights(tmp_path):
    """`linear.*` and `module.` are how the public CIFAR ResNets save themselves."""
    dataset = DIGITS
    network = foreign_model("small_resnet", dataset).module
    state = {
        f"module.{key.removeprefix('trunk.').replace('head.', 'linear.')}": value
        for key, value in network.state_dict().items()
    }
    torch.save({"state_dict": state}, tmp_path / "public.pt")
    record = added_record("public", "small_resnet", tmp_path / "public.pt", dataset, tmp_path)
    assert (record.model, record.model_sha256, record.architecture) == (
        "small_resnet",
        "",
        "small_resnet",
    )
    subject = load_subject(record, tmp_path, dataset)
    images = torch.rand(16, *dataset.shape)
    with torch.no_grad():
        assert torch.equal(subject.model(images).logits, network.eval()(images).logits)


def test_a_package_of_the_person_s_own_is_hashed_with_everything_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someones").mkdir()
    (tmp_path / "someones" / "__init__.py").touch()
    (tmp_path / "someones" / "models.py").write_text("from someones.net import build\n")
    (tmp_path / "someones" / "net.py").write_text(SOURCE)
    sha256 = import_model("someones.models:build").sha256
    assert import_model("someones.models:build", sha256).sha256 == sha256
    (tmp_path / "someones" / "net.py").write_text(SOURCE + "\n# another line\n")
    with pytest.raises(HarnessError, match="was changed since the checkpoint was added"):
        import_model("someones.models:build", sha256)
