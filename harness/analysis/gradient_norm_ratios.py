"""HE's gradient ratios: how much more do adversarial images move the weights than clean ones?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import Exhibit, NotRun
from harness.attacks.streams import generator
from harness.batch import Batch, InnerBudget, Maximiser, Memory
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.models.network import Network

_MEASURED = (nn.Conv2d, nn.BatchNorm2d)


@analysis(
    "gradient_norm_ratios",
    title="Gradient norms, attacked over clean",
    shown=("all",),
    source="HE, figure 3; `he.md` section 6",
    follows_attack=False,
)
def gradient_norm_ratios(exhibit: Exhibit) -> Iterator[Reading]:
    """`|grad L(x*)| / |grad L(x)|` of every convolution and BatchNorm tensor, over batches.

    L is the cross-entropy of the training logits, with the head's scale and margin and over all
    outputs, as the objective has it: the part of a training loss that is defined for clean and
    adversarial images alike. x are training images without augmentation, as many as test images
    are examined, in batches as in training; x* what the defense's own training attack makes of
    them. BatchNorm is in training mode, on copies: nothing that is deployed moves.

    Values: per tensor the mean of the ratios and the ratio of the mean norms; `all`, their means
    over the tensors; `batches`, how many.
    """
    if exhibit.network is None or exhibit.defense is None:
        raise NotRun(
            f"'{exhibit.record.name}' was not trained here: its training loss and its training "
            "attack are not known."
        )
    clean: list[dict[str, float]] = []
    attacked: list[dict[str, float]] = []
    for batch in _batches(exhibit, exhibit.network, exhibit.defense):
        clean.append(gradient_norms(batch, batch.images))
        attacked.append(gradient_norms(batch, batch.adversarial_images))
    found = ratios(attacked, clean)
    if not found:
        raise NotRun("no convolution or BatchNorm tensor has a gradient on clean images.")
    both = torch.tensor([*found.values()], dtype=torch.float64).mean(0)
    values = {**found, "all": both.tolist(), "batches": (len(clean),)}
    yield Reading("training", values, _note(exhibit.defense))


def gradient_norms(batch: Batch, images: Tensor) -> dict[str, float]:
    """Frobenius norms of the gradient of each convolution and BatchNorm tensor, by name.

    The network is left as it is: a copy in training mode, whose buffers may move, is
    differentiated.

    Args:
        batch: labels, network and how outputs are combined.
        images: [N, C, H, W] that the labels belong to.
    """
    network = copy.deepcopy(batch.network).train().requires_grad_()
    answers = batch.on(network).answers(images, batch.labels, select=batch.labels)
    loss = batch.per_head(
        lambda k: functional.cross_entropy(answers.training(k), batch.labels), answers
    )
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        f"{place}.{name}": float(value.grad.double().norm())
        for place, module in network.named_modules()
        if isinstance(module, _MEASURED)
        for name, value in module.named_parameters(recurse=False)
        if value.grad is not None
    }


def ratios(
    attacked: Sequence[Mapping[str, float]], clean: Sequence[Mapping[str, float]]
) -> dict[str, tuple[float, float]]:
    """Per tensor: mean over batches of the ratio, and ratio of the means.

    A tensor without gradient on some clean batch has no ratio there and is left out.
    """
    found = {}
    for name in clean[0]:
        pairs = [(a[name], c[name]) for a, c in zip(attacked, clean, strict=True)]
        if all(below > 0 for _, below in pairs):
            mean = sum(above / below for above, below in pairs) / len(pairs)
            found[name] = (mean, sum(a for a, _ in pairs) / sum(c for _, c in pairs))
    return found


def _batches(exhibit: Exhibit, network: Network, defense: Defense) -> Iterator[Batch]:
    """Batches of training images, evenly over a split that may be sorted by class."""
    learnt, recipe, device = exhibit.learnt, exhibit.record.recipe, exhibit.images.device
    count = min(len(exhibit.labels), len(learnt.labels))
    size = min(int(recipe.get("batch_size", 128)), count)
    order = torch.arange(count) * len(learnt.labels) // count
    order = order[torch.randperm(count, generator=generator(exhibit.seed, "gradient norms"))]
    threat = exhibit.record.threat
    length = float(recipe.get("relative_step", 0.25)) * float(threat.epsilon)
    steps, mode = int(recipe.get("inner_steps", 10)), str(recipe.get("attack_bn", "eval"))
    memory = Memory(learnt.labels.to(device))
    for number in range(count // size):
        chosen = order[number * size : (number + 1) * size]
        yield Batch(
            copy.deepcopy(network).train(mode == "train"),
            learnt.images[chosen].to(device).float() / 255,
            learnt.labels[chosen].to(device),
            budget=InnerBudget(threat, steps, length, mode),
            combine=defense.combine,
            generator=generator(exhibit.seed, "gradient norms", number),
            maximiser=_maximiser(defense),
            epoch=len(exhibit.record.curves.get("loss", ())) or 1,
            epochs=int(recipe.get("epochs", 100)),
            indices=chosen.to(device),
            memory=memory.aside(),
        )


def _maximiser(defense: Defense) -> Maximiser:
    """The defense's own, or the plain one of PGD-AT where it has none of its own."""
    return Pgd() if defense.maximiser is None else defense.maximiser


def _note(defense: Defense) -> str:
    if defense.maximiser is None:
        return "The defense has no training attack: that of PGD-AT was run."
    return "Under the defense's own training attack."
