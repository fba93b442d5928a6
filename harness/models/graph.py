"""What a network does to an image until its maps are pooled, as a list of local operations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from harness.models.network import Network, Normalisation
from harness.models.regions import Geometry
from harness.models.trunk import Trunk

_POINTWISE = (nn.BatchNorm2d, nn.ReLU, Normalisation)
"""Modules that treat every pixel of a map alike and by itself, in evaluation mode."""

_RELUS = (torch.relu, functional.relu)
_SUMS = (operator.add, torch.add)


@dataclass(frozen=True)
class Step:
    """One operation on maps.

    Args:
        sources: numbers of the steps whose maps it reads; the images are step 0, which reads none.
        apply: maps of the sources -> maps, on whole maps.
        convolution: where it is one; every other step treats each pixel by itself.
        geometry: of the convolution.
        readers: how many steps read its maps.
    """

    sources: tuple[int, ...]
    apply: Callable[..., Tensor]
    convolution: nn.Conv2d | None = None
    geometry: Geometry | None = None
    readers: int = 0


def steps_of(network: Network) -> tuple[Step, ...] | None:
    """The operations of a network, images first, pooled maps last; None where one is not local.

    Local are convolutions, what treats every pixel by itself, and sums of maps. A hook, attention,
    statistics of an image or a trunk of another design make a network something else.
    """
    trunk = network.trunk
    is_known = type(network) is Network and type(trunk).stem is Trunk.stem
    is_training = any(
        module.training for module in network.modules() if not isinstance(module, nn.Identity)
    )
    if network.hook is not None or not is_known or is_training:
        return None
    try:
        graph = _Tracer().trace(_Body(network))
    except Exception:  # trunks of others may do anything with what stands for an image
        return None
    return _steps(graph, dict(_Body(network).named_modules()))


class _Body(nn.Module):
    """A network without a hook, up to the pooling."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.normalisation, self.trunk = network.normalisation, network.trunk

    def forward(self, images: Tensor) -> Tensor:
        if self.normalisation is not None:
            images = self.normalisation(images)
        maps = self.trunk._before_last_stage(images)  # `stem` without its look at the shape
        for block in self.trunk.blocks:
            maps = block(maps)
        return self.trunk.finish(maps)


class _Tracer(fx.Tracer):
    """Looks into every module but those that `_local` knows."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return isinstance(m, (nn.Conv2d, nn.Identity, *_POINTWISE))


def _steps(graph: fx.Graph, modules: dict[str, nn.Module]) -> tuple[Step, ...] | None:
    found: list[Step] = []
    numbers: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "output":
            (last,) = node.args
            return _counted(found) if numbers.get(last) == len(found) - 1 else None
        sources = [numbers.get(one, -1) if isinstance(one, fx.Node) else -1 for one in node.args]
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.Identity):
            numbers[node] = sources[0]
            continue
        step = _local(node, tuple(sources), modules)
        if step is None:
            return None
        numbers[node] = len(found)
        found.append(step)
    return None


def _local(node: fx.Node, sources: tuple[int, ...], modules: dict[str, nn.Module]) -> Step | None:
    """The node as a step; None where it is not known to be local."""
    if node.op == "placeholder":
        return Step((), _itself)
    if node.kwargs or not sources or min(sources) < 0:
        return None
    if node.op == "call_module":
        return _module(modules[str(node.target)], sources)
    is_sum = node.target in _SUMS and len(sources) == 2
    is_relu = node.target in _RELUS and len(sources) == 1
    if node.op != "call_function" or not (is_sum or is_relu):
        return None
    return Step(sources, torch.add if is_sum else torch.relu)


def _module(module: nn.Module, sources: tuple[int, ...]) -> Step | None:
    if isinstance(module, nn.Conv2d):
        geometry = Geometry.of(module)
        return Step(sources, module, module, geometry) if geometry is not None else None
    if isinstance(module, nn.ReLU):
        return Step(sources, torch.relu)  # the module itself may write over what it reads
    is_fixed = not isinstance(module, nn.BatchNorm2d) or module.running_mean is not None
    return Step(sources, module) if is_fixed else None


def _itself(images: Tensor) -> Tensor:
    return images


def _counted(steps: list[Step]) -> tuple[Step, ...]:
    read = [source for step in steps for source in step.sources]
    return tuple(replace(step, readers=read.count(number)) for number, step in enumerate(steps))
