"""Foreign models in a process of their own: the same bits, nothing to find there, named ends."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.attacks.attack import attack_spec
from harness.data.digits import DIGITS
from harness.data.loading import load
from harness.diagnostics.diagnostic import DIAGNOSTICS
from harness.diagnostics.examination import Examination
from harness.errors import HarnessError, ModelError
from harness.evaluation import confined, patience
from harness.evaluation import work as work_module
from harness.evaluation.channel import BadMessageError, Channel, Message
from harness.evaluation.confined import RemoteModule
from harness.evaluation.handle import Handle
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.third_party import added_record, import_model, opened
from harness.evaluation.work import Work, do
from harness.identity import CLEAN, EVERY, Capabilities, Failure, Job, Outcome, Runtime
from harness.outputs import SoftSelect

SOURCE = """
import gc, inspect, os, signal, socket, struct, sys, time
import torch
from pathlib import Path
from torch import nn

WOKEN = Path(__file__).with_name("woken")


class Net(nn.Module):
    def __init__(self, trouble):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
        self.register_buffer("seen", torch.zeros(1))
        self.trouble = trouble

    def forward(self, images):
        if not WOKEN.exists():  # it behaves while it is added
            return self.body(images)
        return self.trouble(self, images, self.body)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(10, 64))

    def forward(self, images):
        features = images.flatten(1)
        scores = features @ self.weight.T
        return (self.weight[scores.argmax(1)] * features) @ self.weight.T


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, 10)
        self.own = torch.Generator().manual_seed(1)

    def forward(self, images):
        noise = torch.randn(images.shape, generator=self.own) + torch.randn(images.shape)
        return self.linear((images + 0.1 * noise).flatten(1))


gated = Gated
noisy = Noisy


def wrap(trouble):
    return lambda: Net(trouble)


def _raise(self, images, body):
    raise KeyError("no such layer")


def _hang(self, images, body):
    while True:
        time.sleep(1)


def _grow(self, images, body):
    self.seen += 1
    return body(images) + self.seen


def _switch(self, images, body):
    self.train()
    return body(images)


def _count(self, images, body):
    self.calls = getattr(self, "calls", 0) + 1  # nowhere in the state
    return body(images) + self.calls


def _count_in_buffer(self, images, body):
    self.seen += 1
    return body(images)


def _batch(self, images, body):
    return body(images - images.mean(0, keepdim=True) * 3)


def _overwrite(self, images, body):
    images.data.mul_(0.5)
    return body(images)


def _differentiate(self, images, body):
    (slope,) = torch.autograd.grad(body(images.requires_grad_()).sum(), images)
    return body(images - slope)


def _ask_for_labels(self, images, body, labels=None):
    return body(images) + labels


def _peek(self, images, body):
    frame = inspect.currentframe()
    while frame:
        for name, value in frame.f_locals.items():
            if "label" in name and torch.is_tensor(value):
                raise RuntimeError("labels!")
        frame = frame.f_back
    here = [one for one in gc.get_objects() if type(one) is torch.Tensor]
    if any(one.dtype == torch.int64 and one.numel() >= 20 for one in here):
        raise RuntimeError("labels!")
    return body(images)


def own_socket():  # whoever looks for it finds it: that must not help
    names = {one: f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")}
    return next(
        int(one)
        for one, name in names.items()
        if os.path.lexists(name) and "socket" in os.readlink(name)
    )


def _speak(self, images, body):
    os.write(own_socket(), b"x" * 64)
    return body(images)


def _boast(self, images, body):
    os.write(own_socket(), struct.pack("!IQ", 2, 2**60) + b"{}")
    return body(images)


raises = wrap(_raise)
hangs = wrap(_hang)
leaves = wrap(lambda self, images, body: os._exit(3))
killed = wrap(lambda self, images, body: os.kill(os.getpid(), signal.SIGKILL))
nan = wrap(lambda self, images, body: body(images) * float("nan"))
shape = wrap(lambda self, images, body: body(images)[:, :7])
flat = wrap(lambda self, images, body: body(images).flatten())
whole = wrap(lambda self, images, body: body(images).round().long())
nothing = wrap(lambda self, images, body: None)
grows = wrap(_grow)
buffers = wrap(_count_in_buffer)
switches = wrap(_switch)
counts = wrap(_count)
batch = wrap(_batch)
overwrites = wrap(_overwrite)
differentiates = wrap(_differentiate)
labels = wrap(_ask_for_labels)
peeks = wrap(_peek)
speaks = wrap(_speak)
stops = wrap(lambda self, images, body: (os.kill(os.getppid(), signal.SIGSTOP), os._exit(1)))
ends_all = wrap(lambda self, images, body: (os.kill(os.getppid(), signal.SIGKILL), time.sleep(99)))
boasts = wrap(_boast)
honest = wrap(lambda self, images, body: body(images))


def sleeps():
    time.sleep(60)


def forks():
    if os.fork() == 0:
        Path(__file__).with_name("grandchild").write_text(str(os.getpid()))
        time.sleep(99)
    return Net(None)


class Forgetful(nn.Module):  # it shows a head and features while it is added
    def __init__(self, later):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.later = later

    def forward(self, images):
        from harness.outputs import Outputs

        logits = self.linear(images.flatten(1))
        whole = Outputs(logits, (2 * logits,), images.flatten(1))
        return self.later(whole) if WOKEN.exists() else whole


def forgets_heads():
    return Forgetful(lambda found: type(found)(found.logits, (), found.features))


def forgets_features():
    return Forgetful(lambda found: type(found)(found.logits, found.auxiliary))


def counts_features():
    return Forgetful(
        lambda found: type(found)(found.logits, found.auxiliary, found.features.long())
    )


def forges(**said):  # rewrites what its own process answers
    from harness.evaluation.guest import Guest

    guest = next(one for one in gc.get_objects() if type(one) is Guest)
    probe = guest._actions["probe"]

    def lie(message):
        header, tensors = probe(message)
        return {"capabilities": {**header["capabilities"], **said}}, tensors

    guest._actions["probe"] = lie
    return Net(None)


five = lambda: forges(classes=5)
huge = lambda: forges(scale=1e308)
stripped = lambda: forges(strip=True)


def greedy():
    from harness.evaluation.guest import Guest

    guest = next(one for one in gc.get_objects() if type(one) is Guest)

    def starve(message):
        raise torch.OutOfMemoryError("all of it")

    guest._actions["probe"] = starve
    return Net(None)


def tells():
    names = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    fds = [os.readlink(name) for name in names if os.path.lexists(name)]
    raise RuntimeError(repr([sys.argv, os.getcwd(), sorted(os.environ.items()), fds, sys.path]))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "models" / "theirs.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


def built(file, name):
    module, sha256, parameters = RemoteModule.built(f"{file}:{name}", "", Path.cwd(), "cpu")
    assert len(sha256) == 64
    assert parameters > 0
    return module


def images(count=20):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def added(file, name, tmp_path):
    """A checkpoint of a model that misbehaves from now on."""
    weights = tmp_path / "weights.pt"
    torch.save(import_model(f"{file}:{name}").module.state_dict(), weights)
    record = added_record("theirs", f"{file}:{name}", weights, DIGITS, tmp_path)
    (file.parent / "woken").touch()
    return record


def work_on(record, folder, attack=CLEAN, *, seconds=60.0):
    data = load("digits", "test")
    job = Job(
        record.digest, "digits", data.sha256, record.threat, attack, EVERY, 0, "float32", 0, 20
    )
    return Work(job, record, (True,) * 20, "digits", folder, None, Runtime(time_limit=seconds))


@pytest.fixture(autouse=True)
def _fresh_process():
    for cached in (work_module._subject, work_module._surrogate):
        cached.cache_clear()


# The same bits


def test_values_gradients_and_forced_gates_are_bit_by_bit_those_of_the_module_itself(file):
    remote = built(file, "gated")
    capabilities = remote.probe(images(4), 10)
    local = import_model(f"{file}:gated").module
    local.load_state_dict(remote.state_dict())
    remote.open(capabilities)
    ways = Handle(remote, 10, has_gate=True), Handle(opened(local, capabilities), 10, has_gate=True)
    assert capabilities.hard == ("argmax",)
    assert ways[0].state_digest() == ways[1].state_digest()
    for select in (None, SoftSelect(1.0), torch.arange(20) % 10):
        candidates = [images().requires_grad_() for _ in ways]
        found = [way(x, select=select) for way, x in zip(ways, candidates, strict=True)]
        for one, other in zip(found[0].every_logits(), found[1].every_logits(), strict=True):
            assert torch.equal(one, other)
        for part in (lambda o: o.logits.sum(), lambda o: o.auxiliary[0][:, 2].sum()):
            slopes = [
                torch.autograd.grad(part(o), x, retain_graph=True)[0]
                for o, x in zip(found, candidates, strict=True)
            ]
            assert torch.equal(*slopes)
            assert slopes[0].abs().sum() > 0


def test_a_random_model_draws_the_same_numbers_there_as_here(file):
    remote, local = built(file, "noisy"), import_model(f"{file}:noisy").module
    ways = RandomHandle(remote, 10), RandomHandle(local, 10)
    for way in ways:
        way.reseed(0, "attack", 7)
    first = [way(images(2)).logits for way in ways]
    again = [way(images(2)).logits for way in ways]
    assert torch.equal(*first)
    assert torch.equal(*again)
    assert not torch.equal(first[0], again[0])
    with torch.no_grad():
        free = [remote(images(2)).logits for _ in range(2)]
    assert not torch.equal(*free)  # nobody fixes the numbers of a raw pass


def test_a_pass_without_gradients_keeps_no_graph(file):
    remote = built(file, "gated")
    with torch.no_grad():
        assert not remote(images()).logits.requires_grad
    assert not remote(images()).logits.requires_grad
    assert remote(images().requires_grad_()).logits.requires_grad


@pytest.mark.parametrize("identity", ["D12", "D16", "D17", "D18", "D19"])
@pytest.mark.parametrize("name", ["gated", "buffers", "switches", "differentiates"])
def test_diagnostics_that_look_inside_say_the_same_of_a_module_elsewhere(file, identity, name):
    (file.parent / "woken").touch()
    found = []
    for module in (built(file, name), import_model(f"{file}:{name}").module):
        examination = Examination(
            model=Handle(module, 10),
            module=module,
            images=images(),
            labels=torch.arange(20) % 10,
            indices=range(20),
            threat=DIGITS.threat,
            capabilities=Capabilities(10),
        )
        found.append(_said(identity, examination))
    assert found[0] == found[1]


def _said(identity, examination):
    reading = DIAGNOSTICS[identity].read(examination)
    hint = "differentiates in its forward pass, where gradients are off: let it use " + (
        "torch.enable_grad() ("
    )
    note = reading.note.replace(hint, "raised ").replace(").", "").removesuffix(".")
    return reading.state, note, reading.value


# What a model finds around itself


def test_the_process_of_a_model_is_told_no_path_and_no_handle_of_the_store(
    file, tmp_path, monkeypatch
):
    store = tmp_path / "secret" / "results.db"
    store.parent.mkdir()
    store.touch()
    monkeypatch.setenv("HARNESS_DB", str(store))
    monkeypatch.setenv("HARNESS_CHECKPOINTS", str(store.parent))
    monkeypatch.setenv("PGPASSWORD", "hidden")
    monkeypatch.setattr(sys, "argv", ["harness", "eval", "--db", str(store)])
    monkeypatch.chdir(store.parent)
    with store.open() as held:
        os.set_inheritable(held.fileno(), True)
        with pytest.raises(HarnessError, match="raised RuntimeError") as told:
            RemoteModule.built(f"{file}:tells", "", Path.cwd(), "cpu")
    assert "'-c'" in str(told.value)  # it did tell
    for secret in ("secret", "results.db", "HARNESS_", "hidden"):
        assert secret not in str(told.value)


def test_labels_are_nowhere_in_the_process_of_a_model(file, tmp_path):
    record = added(file, "peeks", tmp_path)
    for attack in (CLEAN, attack_spec("fgsm")):
        assert isinstance(do(work_on(record, tmp_path, attack)), Outcome)


def test_what_a_model_prints_reaches_nobody(file, capfd):
    noisy = file.with_name("chatty.py")
    noisy.write_text(SOURCE + "\nprint('hello', flush=True)\nprint('\\x1b[2J', file=sys.stderr)\n")
    built(noisy, "gated")
    assert capfd.readouterr() == ("", "")


# Every end has a name


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("raises", "raised", "KeyError: 'no such layer'"),
        ("leaves", "crashed", "the process of the model ended"),
        ("killed", "crashed", "ended by signal 9"),
        ("nan", "non_finite", "NaN"),
        ("shape", "wrong_shape", r"\(32, 7\)"),
        ("flat", "wrong_shape", "for 32 images"),
        ("whole", "wrong_shape", "int64"),
        ("nothing", "wrong_type", "NoneType"),
        ("grows", "keeps_state", "differently when asked again"),
        ("counts", "keeps_state", "differently when asked again"),
        ("buffers", "changed_state", "changed its parameters or buffers"),
        ("switches", "switched_mode", "training mode"),
        ("batch", "batch_dependent", "other images of its batch"),
        ("overwrites", "changed_input", "changed the images"),
        ("differentiates", "needs_gradient", "torch.enable_grad"),
        ("labels", "raised", "NoneType"),
        ("speaks", "bad_answer", "sent a message of"),
        ("boasts", "bad_answer", "bytes"),
        ("forgets_heads", "changed_heads", "0 auxiliary outputs, but 1"),
        ("forgets_features", "wrong_shape", "no features"),
        ("counts_features", "wrong_shape", "floating point"),
    ],
)
def test_a_model_that_misbehaves_ends_in_a_named_failure(file, tmp_path, name, status, sentence):
    record = added(file, name, tmp_path)
    failure = do(work_on(record, tmp_path))
    assert isinstance(failure, Failure), failure
    assert failure.status == status
    assert re.search(sentence, failure.message), failure.message


def test_a_model_that_hangs_is_ended_in_time_and_does_not_hang_again(file, tmp_path):
    record = added(file, "hangs", tmp_path)
    started = time.monotonic()
    failure = do(work_on(record, tmp_path, seconds=5.0))
    assert (failure.status, time.monotonic() - started < 40) == ("timed_out", True)
    assert "--time-limit" in failure.message
    assert work_module._subject.cache_info().currsize == 1
    started = time.monotonic()
    assert do(work_on(record, tmp_path, attack_spec("fgsm"))).status == "timed_out"
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("name", "status"), [("stops", "crashed"), ("ends_all", "timed_out")])
def test_a_model_that_ends_what_started_it_ends_alone(file, tmp_path, name, status, monkeypatch):
    monkeypatch.setattr(confined, "_PATIENCE", 1.0)
    confined._zygote.cache_clear()  # one of its own
    record = added(file, name, tmp_path)
    process = built(file, name).link.process
    started = time.monotonic()
    failure = do(work_on(record, tmp_path, seconds=3.0))
    assert failure.status in {status, "crashed"}
    assert time.monotonic() - started < 30
    (file.parent / "woken").unlink()
    assert built(file, "gated")(images()).logits.shape == (20, 10)
    assert not _lives(process)


def test_what_a_model_starts_ends_with_it(file):
    module = built(file, "forks")
    grandchild = file.with_name("grandchild")
    _wait_until(grandchild.exists)
    pid = int(grandchild.read_text())
    assert _lives(pid)
    del module
    _wait_until(lambda: not _lives(pid))


@pytest.mark.parametrize("name", ["five", "huge", "stripped"])
def test_a_model_is_not_described_as_what_it_cannot_be(file, name):
    with pytest.raises(ModelError, match="what it cannot be") as refused:
        built(file, name).probe(images(4), 10)
    assert refused.value.status == "bad_answer"


def test_a_model_that_takes_all_memory_is_not_added_in_a_sentence(file, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save(import_model(f"{file}:honest").module.state_dict(), weights)
    with pytest.raises(HarnessError, match=r"'theirs' cannot be added.*out of memory"):
        added_record("theirs", f"{file}:greedy", weights, DIGITS, tmp_path)


def test_an_attack_that_fails_on_a_foreign_model_ends_its_row_and_a_bug_of_ours_is_one(
    file, tmp_path, monkeypatch
):
    def fail(*_):
        raise IndexError("tuple index out of range")

    record = added(file, "honest", tmp_path)
    monkeypatch.setattr(work_module, "evaluate", fail)
    failure = do(work_on(record, tmp_path))
    assert (failure.status, "IndexError: tuple index" in failure.message) == ("unforeseen", True)
    with pytest.raises(IndexError):
        do(replace(work_on(record, tmp_path), record=replace(record, kind="trained")))


def test_thousands_of_tensors_are_no_answer():
    tensors = {str(number): torch.zeros(0) for number in range(20_001)}
    with pytest.raises(ModelError, match="20001 tensors"):
        RemoteModule(Said(GOOD, tensors))(torch.rand(2, 1, 8, 8))


def test_a_model_that_hangs_while_it_is_built_is_a_sentence(file, monkeypatch):
    monkeypatch.setattr(patience, "LONGEST_PASS", 8.0)
    with pytest.raises(ModelError, match="longer than 8 s"):
        RemoteModule.built(f"{file}:sleeps", "", Path.cwd(), "cpu")


def test_no_pass_begins_when_the_time_is_over():
    handle = Handle(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), 10)
    with patience.time_limit(1e-9), pytest.raises(ModelError, match="--time-limit") as refused:
        handle(images())
    assert refused.value.status == "timed_out"
    assert handle(images()).logits.shape == (20, 10)


def test_a_killed_harness_takes_the_process_of_a_hanging_model_with_it(file):
    (file.parent / "woken").touch()
    code = f"""
        import torch
        from pathlib import Path
        from harness.evaluation.confined import RemoteModule
        module, *_ = RemoteModule.built({f"{file}:hangs"!r}, "", Path.cwd(), "cpu")
        print(module.link.process, flush=True)
        module(torch.rand(2, 1, 8, 8))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        guest = int(parent.stdout.readline())
        time.sleep(0.3)
        os.kill(guest, 0)  # it is there
        parent.send_signal(signal.SIGKILL)
    _wait_until(lambda: not _lives(guest))


def _wait_until(is_true):
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_module_that_is_forgotten_ends_its_process(file):
    module = built(file, "gated")
    pid = module.link.process
    assert _lives(pid)
    del module
    _wait_until(lambda: not _lives(pid))


# What is said is data


class Said:
    """A link to a process that says anything."""

    def __init__(self, header, tensors=None):
        self.message = Message(header, tensors or {})

    def ask(self, words, tensors=None, *, most=0):
        return self.message

    def forget(self, number):
        pass


GOOD = {"auxiliary": 0, "vectors": 0, "scale": 1.0, "differentiable": ["logits"], "id": 1}


@pytest.mark.parametrize(
    "header",
    [
        {},
        {**GOOD, "auxiliary": 1},
        {**GOOD, "auxiliary": "many"},
        {**GOOD, "auxiliary": 10**30},
        {**GOOD, "scale": None},
        {**GOOD, "vectors": [1]},
    ],
)
def test_an_answer_that_is_none_is_refused(header):
    module = RemoteModule(Said(header, {"logits": torch.zeros(2, 10)}))
    with pytest.raises(ModelError) as refused:
        module(torch.rand(2, 1, 8, 8))
    assert refused.value.status == "bad_answer"


@pytest.mark.parametrize("gradient", [None, torch.zeros(3), torch.zeros(2, 1, 8, 8).int()])
def test_what_is_no_gradient_is_refused(gradient):
    tensors = {"logits": torch.zeros(2, 10)}
    if gradient is not None:
        tensors["images"] = gradient
    module = RemoteModule(Said(GOOD, tensors))
    candidate = torch.rand(2, 1, 8, 8, requires_grad=True)
    logits = module(candidate).logits
    with pytest.raises(ModelError) as refused:
        torch.autograd.grad(logits.sum(), candidate)
    assert refused.value.status == "bad_answer"


@pytest.mark.parametrize("listed", [None, 3, ["logits", 4], ["features"]])
def test_only_what_is_there_can_be_differentiated(listed):
    module = RemoteModule(Said({**GOOD, "differentiable": listed}, {"logits": torch.zeros(2, 10)}))
    assert not module(torch.rand(2, 1, 8, 8, requires_grad=True)).logits.requires_grad


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_more_than_a_bad_message(content):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((BadMessageError, EOFError)):
            Channel(ours).receive(deadline=time.monotonic() + 5)


@pytest.mark.parametrize(
    ("header", "payload"),
    [(b"[]", b""), (b"{", b""), (b"{}", b"\x80\x04."), (b"[" * 100_000, b""), (b"\xff", b"")],
)
def test_a_message_of_the_right_size_and_wrong_content_is_refused(header, payload):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!IQ", len(header), len(payload)) + header + payload)
        with pytest.raises(BadMessageError):
            Channel(ours).receive(deadline=time.monotonic() + 5)


def test_what_is_sent_arrives():
    ours, theirs = socket.socketpair()
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "view": base[:, ::2], "tied": base, "empty": torch.empty(0)}
    with ours, theirs:
        Channel(ours).send({"say": json.dumps("ü")}, tensors)
        header, found = Channel(theirs).receive(deadline=time.monotonic() + 5)
    assert header == {"say": '"\\u00fc"'}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
