"""The one way attacks reach a model: frozen, in evaluation mode, checked, padded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harness.errors import ModelError, first_line
from harness.evaluation.patience import check_time
from harness.identity import Capabilities
from harness.models.network import Network
from harness.models.rows import rows_for, up_to
from harness.outputs import Outputs, Select, Stripped

PADDING = 16
"""Batches of foreign models are padded to a multiple of this. Measured on the CPU: with fewer than
12 images the last linear layer's gradient takes another kernel and other bits; padded to 16, none
differ. Networks of our own parts need less (`models.rows`)."""


def pad(tensor: Tensor, rows: int | None = None) -> Tensor:
    """[n, ...] -> [rows, ...], repeating the first row; the next multiple of `PADDING` if None."""
    missing = -len(tensor) % PADDING if rows is None else rows - len(tensor)
    if missing == 0:
        return tensor
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])])


class Handle:
    """A module as a `Model`: the same bits for an image whatever its batch mates.

    Args:
        module: returns logits [N, K] or `Outputs`.
        classes: K.
        has_gate: whether the module's forward takes `select`.
        promised: what attacks count on; None where nobody does.
    """

    padding = PADDING
    layout = torch.contiguous_format
    """In which images reach the module: kernels, and so the last bits, follow it."""

    def __init__(
        self,
        module: nn.Module,
        classes: int,
        *,
        has_gate: bool = False,
        promised: Capabilities | None = None,
    ) -> None:
        self._module = module.eval().requires_grad_(requires_grad=False)
        self._classes = classes
        self._has_gate = has_gate
        self._promised = promised
        is_ours = isinstance(module, Network)
        self._known = tuple(module.modules()) if is_ours else None

    def __call__(self, images: Tensor, *, select: Select = None) -> Outputs:
        """Outputs of the images alone; the padding is cut off again.

        Raises:
            ModelError: the module raised, or returned something else than logits [N, K].
        """
        check_time()
        rows = self._rows(images)
        padded = self._laid_out(pad(images, rows))
        gate = pad(select, rows) if isinstance(select, Tensor) else select
        try:
            found = self._module(padded, select=gate) if self._has_gate else self._module(padded)
        except (torch.OutOfMemoryError, ModelError):
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(
                "raised", f"the model raised {type(error).__name__}: {first_line(error)}"
            ) from error
        if any(module.training for module in self._parts()):
            self._module.eval()
            raise ModelError("switched_mode", "the model switched itself to training mode.")
        outputs = as_outputs(found)
        if self._promised is not None and not isinstance(select, Stripped):
            _check_promise(outputs, self._promised)
        return self._cut(outputs, len(images), len(padded))

    @property
    def module(self) -> nn.Module:
        """The module itself, for diagnostics that watch a raw forward pass."""
        return self._module

    def state_digest(self) -> str:
        """SHA-256 over every parameter and buffer: judging an image must not change them."""
        found = hashlib.sha256()
        for name, value in sorted(self._module.state_dict().items()):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()

    def _parts(self) -> Iterable[nn.Module]:
        """Every module inside; those of a network stay the same and are listed once."""
        return self._module.modules() if self._known is None else self._known

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.layout) if images.ndim == 4 else images

    def _rows(self, images: Tensor) -> int:
        """How many images a pass of these takes."""
        if self._known is None or self.padding != PADDING:
            return up_to(len(images), self.padding)
        threads = torch.get_num_threads() if images.device.type == "cpu" else 1
        differentiated = images.requires_grad and torch.is_grad_enabled()
        return rows_for(len(images), threads, differentiated=differentiated)

    def _cut(self, outputs: Outputs, count: int, padded: int) -> Outputs:
        for logits in outputs.every_logits():
            if tuple(logits.shape) != (padded, self._classes) or not logits.is_floating_point():
                raise ModelError(
                    "wrong_shape",
                    f"the model returned {tuple(logits.shape)} {logits.dtype} for {padded} images, "
                    f"expected ({padded}, {self._classes}) floating point: one logit per class.",
                )
        features = outputs.features
        others = (features, outputs.gated, *outputs.vectors)
        if not all(one is None or _are_vectors(one, padded) for one in others):
            raise ModelError(
                "wrong_shape",
                f"the model returned features that are not ({padded}, R) floating point.",
            )
        return Outputs(
            outputs.logits[:count].float(),
            tuple(logits[:count].float() for logits in outputs.auxiliary),
            None if features is None else features[:count],
            outputs.logit_scale,
            tuple(vectors[:count] for vectors in outputs.vectors),
            None if outputs.gated is None else outputs.gated[:count],
        )


class CopyHandle(Handle):
    """The way to a copy by `models.prepared`, whose convolutions read channels last."""

    layout = torch.channels_last


def _are_vectors(value: Tensor, count: int) -> bool:
    return value.ndim >= 2 and len(value) == count and value.is_floating_point()


def _check_promise(outputs: Outputs, promised: Capabilities) -> None:
    """Refuse fewer outputs than were there when the model was added or trained.

    Raises:
        ModelError: attacks would miss them.
    """
    if len(outputs.auxiliary) < promised.auxiliary:
        raise ModelError(
            "changed_heads",
            f"the model returned {len(outputs.auxiliary)} auxiliary outputs, but "
            f"{promised.auxiliary} are recorded.",
        )
    if promised.features and outputs.features is None:
        raise ModelError("wrong_shape", "the model returned no features, but they are recorded.")


def as_outputs(found: object) -> Outputs:
    """What a module returned, as `Outputs`.

    Raises:
        ModelError: neither a tensor nor `Outputs` of tensors.
    """
    outputs = found if isinstance(found, Outputs) else Outputs(found)  # type: ignore[arg-type]
    for logits in outputs.every_logits():
        if not isinstance(logits, Tensor):
            raise ModelError(
                "wrong_type",
                f"the model returned a {type(logits).__name__}: expected logits [N, K] or Outputs.",
            )
    return outputs
