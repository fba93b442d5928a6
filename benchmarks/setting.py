"""What the numbers depend on: images, machine, versions, and the model, which is made once."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.results import Setting
from harness.cli import harness
from harness.cli.options import checkpoint_folder
from harness.data import Split, cache_folder, dataset, load
from harness.errors import HarnessError
from harness.evaluation.subject import Subject, load_subject
from harness.executors.local import processors
from harness.identity import CheckpointRecord
from harness.models.network import Network
from harness.rebuilding import load_network
from harness.store.store import Store

PEERS = ("pyautoattack", "torchattacks", "foolbox")
MISSING = "not installed"

BATCH = 250
"""Images of one pass, for every side, unless asked otherwise; pyautoattack's default."""

MODEL = "pgd_at-cifar10-resnet18-smoke-s0"
RECIPE = (
    *("train", "pgd_at", "--dataset", "cifar10", "--recipe", "H-C10", "--scale", "smoke"),
    *("--epochs", "9", "--set", "width=16", "--set", "inner_steps=2"),
    *("--set", "relative_step=0.75", "--set", "schedule=one_cycle"),
    *("--set", "learning_rate=0.15", "--set", "precision=bfloat16"),
)
"""`harness` with these words makes the model: a thin ResNet-18, PGD with two steps of 6/255."""


class LogitsOf(nn.Module):
    """A network as the peers know models: images in, logits out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] to [N, K]."""
        logits: Tensor = self.network(images).logits
        return logits


@dataclass(frozen=True)
class Compared:
    """The model of the comparisons, for us and for the peers, and its images.

    Args:
        record: of the checkpoint.
        subject: as our evaluation loads it.
        peers: the same weights, as the peers leave a model: float32, evaluation mode, rows of
            channels, parameters that ask for gradients.
        data: the test split.
        count: how many images, the first ones.
        right: [count] bool, those that are classified correctly.
        device: `cpu` or `cuda`.
        seed: of every attack.
        rounds: of every comparison.
        alone: whether peers are left out.
        batch: images of one pass, for every side.
    """

    record: CheckpointRecord
    subject: Subject
    peers: LogitsOf
    data: Split
    count: int
    right: Tensor
    device: str
    seed: int
    rounds: int
    alone: bool = False
    batch: int = BATCH

    def without(self, peer: str) -> str:
        """Why a peer does not take part; empty where it does."""
        if self.alone:
            return "left out"
        return "" if importlib.util.find_spec(peer) else MISSING

    @property
    def images(self) -> Tensor:
        """[count, C, H, W] in [0, 1], on the device."""
        return self.data.batch(0, self.count).to(self.device)

    @property
    def labels(self) -> Tensor:
        """[count] int64, on the device."""
        return self.data.labels[: self.count].to(self.device)


def compared(
    name: str,
    db: Path,
    count: int,
    *,
    device: str,
    seed: int = 0,
    rounds: int = 3,
    alone: bool = False,
    batch: int = BATCH,
) -> Compared:
    """Load a stored checkpoint for both sides.

    Args:
        name: of the checkpoint, trained here.
        db: the database that it is in.
        count: test images, the first ones.
        device: `cpu` or `cuda`.
        seed: of every attack.
        rounds: of every comparison.
        alone: whether peers are left out.
        batch: images of one pass, for every side.

    Raises:
        HarnessError: it is not there or was added from elsewhere, or there are fewer images.
    """
    with Store.open(str(db), create=False, read_only=True) as store:
        record, folder = store.checkpoint(name), checkpoint_folder(store)
    if record.kind != "trained":
        raise HarnessError(f"'{name}' was added from elsewhere: compare a model trained here.")
    known = dataset(record.dataset)
    network = load_network(record, folder, known).to(device).eval()
    model = LogitsOf(network.to(memory_format=torch.contiguous_format)).eval()
    data = load(record.dataset, "test")
    images, labels = data.batch(0, count).to(device), data.labels[:count]
    with torch.no_grad():
        right = (
            torch.cat([model(some).argmax(1).cpu() for some in torch.split(images, batch)])
            == labels
        )
    subject = load_subject(record, folder, known, device=device)
    return Compared(record, subject, model, data, count, right, device, seed, rounds, alone, batch)


def made() -> Path:
    """The database with the model, trained now unless it is there; a kill costs minutes."""
    db = cache_folder() / "benchmarks" / "benchmarks.db"
    db.parent.mkdir(parents=True, exist_ok=True)
    harness.main([*RECIPE, "--db", str(db)], prog_name="harness", standalone_mode=False)
    return db


def setting_of(model: Compared, threads: int) -> Setting:
    """Everything that the numbers depend on."""
    return Setting(
        device=model.device,
        commit=_commit(),
        machine=_machine(model.device),
        versions=versions(),
        threads=threads,
        seed=model.seed,
        rounds=model.rounds,
        batch=model.batch,
        images=model.count,
        model=model.record.name,
        checkpoint=model.record.digest,
        parameters=model.record.parameters,
        threat=str(model.record.threat),
        clean=int(model.right.sum()),
    )


def versions() -> dict[str, str]:
    """Of Python, PyTorch and every peer."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for peer in PEERS:
        try:
            found[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            found[peer] = MISSING
    return found


@contextmanager
def defaults_of_torch() -> Iterator[None]:
    """The arithmetic of a GPU as PyTorch ships it, for the peers; ours is asked for, job by job."""
    backends = (torch.backends.cudnn, "allow_tf32"), (torch.backends.cudnn, "deterministic")
    before = [getattr(*backend) for backend in backends]
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
    try:
        yield
    finally:
        for (module, name), value in zip(backends, before, strict=True):
            setattr(module, name, value)


def _commit() -> str:
    here = Path(__file__).parent
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_processor()}, {processors()} cores"


def _processor() -> str:
    """Name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
