"""Small subjects, test splits of random pictures, and jobs on them."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from harness.attacks.attack import attack_spec
from harness.catalogue import DEFENSES
from harness.data.splits import Split
from harness.defense import Build
from harness.evaluation.evaluate import evaluate
from harness.evaluation.handle import Handle
from harness.evaluation.subject import Subject
from harness.identity import CORRECT, AttackSpec, Capabilities, Job, Outcome, Runtime
from harness.models.network import Network
from harness.threat import ThreatModel

COUNT = 50
THREAT = ThreatModel("linf", Fraction(8, 255))


def split_of(images: Tensor, labels: Tensor) -> Split:
    """Images [N, C, H, W] uint8 as a test split."""
    return Split("pictures", "test", images, labels, "s" * 64, "l" * 64, None)


def random_pixels(*shape: int, count: int = COUNT) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def labelled_by(module: nn.Module, pixels: Tensor) -> Tensor:
    """What the module decides, so that every image is correct."""
    with torch.no_grad():
        found = module.eval()(pixels.float() / 255)
    return (found if isinstance(found, Tensor) else found.logits).argmax(1)


def convolution(classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, classes),
    )
    return centred(module, module[-1].bias, (3, 16, 16))


def reverse_attention_network() -> Network:
    """TRADES-ANCRA's network with statistics of its own, as after training."""
    defense, _ = DEFENSES["trades_ancra"].compose({})
    build = Build((1, 8, 8), 10, "small_preactresnet", {"width": 8}, seed=3)
    network = defense.build(build).network
    torch.manual_seed(1)
    network.train()
    for _ in range(5):
        network(torch.rand(64, 1, 8, 8))
    with torch.no_grad():
        network.head.weight *= 4
    return centred(network, network.head.bias, (1, 8, 8))


def centred(module: nn.Module, bias: nn.Parameter, shape: tuple[int, int, int]) -> nn.Module:
    """Change the last bias so that every class is decided for now and then."""
    with torch.no_grad():
        found = module.eval()(torch.rand(256, *shape, generator=torch.Generator().manual_seed(9)))
        logits = found if isinstance(found, Tensor) else found.auxiliary[0]
        bias -= logits.mean(0)
    return module


def subject_of(module: nn.Module, classes: int = 10, **capabilities: object) -> Subject:
    found = Capabilities(classes, **capabilities)
    return Subject(Handle(module, classes, has_gate=found.select), found)


def job_of(
    attack: AttackSpec | str = "fgsm",
    first: int = 0,
    last: int = COUNT,
    threat: ThreatModel = THREAT,
    **settings: object,
) -> Job:
    spec = attack_spec(attack, **settings) if isinstance(attack, str) else attack
    return Job("c", "pictures", "s" * 64, threat, spec, CORRECT, 0, "float32", first, last)


def run(
    job: Job,
    subject: Subject,
    data: Split,
    *,
    attackable: Tensor | None = None,
    batch_size: int = 250,
) -> Outcome:
    everyone = torch.ones(job.last - job.first, dtype=torch.bool)
    chosen = everyone if attackable is None else attackable
    return evaluate(job, subject, data, chosen, Runtime(batch_size=batch_size))


def bits(outcome: Outcome) -> Outcome:
    """The outcome without what may differ between runs; NaN made comparable."""
    columns = {
        name: tuple(None if math.isnan(value) else value for value in column)
        for name, column in outcome.columns.items()
    }
    return replace(outcome, columns=columns, seconds=0.0, runtime=Runtime())
