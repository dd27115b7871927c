"""Errors of a model on whole fields, in physical units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from jaxtyping import Bool, Float

from ups_data.collate import SparseBatch, collate_samples
from ups_data.dataset import QueryDataset
from ups_data.errors import DatasetError
from ups_data.models import NeuralOperator
from ups_data.samplers import DenseSampler

_TINY = 1e-30  # keeps a target that is zero everywhere from dividing by zero


@dataclass(frozen=True, kw_only=True)
class DenseErrors:
    """Errors on all points; each is the mean over samples of an error of the sample.

    Attributes:
        relative_l2: |p - y| / |y| (Euclidean norms) over frames, points and channels together.
        vrmse: rms(p - y) / std(y) by field, over frames, points and channels of a sample; y about its channel means.
        nrmse: rms(p - y) / rms(y) by field.
        num_samples: samples that were evaluated.
        stores: the same of each store of a mixture, by its name; empty where there is one store. The errors above are
            then the means over the samples of all of them.
    """

    relative_l2: float
    vrmse: dict[str, float]
    nrmse: dict[str, float]
    num_samples: int
    stores: dict[str, DenseErrors] = field(default_factory=dict)

    @classmethod
    def over(cls, parts: Mapping[str | None, DenseErrors]) -> Self:
        """Return the errors over the samples of several stores, with those of each; of one under None, as they are."""
        several, total = list(parts.values()), sum(part.num_samples for part in parts.values())

        def mean(values: list[float]) -> float:
            if len(values) == 1:
                return values[0]
            return sum(part.num_samples * value for part, value in zip(several, values, strict=True)) / total

        names = several[0].vrmse
        return cls(
            relative_l2=mean([part.relative_l2 for part in several]),
            vrmse={name: mean([part.vrmse[name] for part in several]) for name in names},
            nrmse={name: mean([part.nrmse[name] for part in several]) for name in names},
            num_samples=total,
            stores={name: part for name, part in parts.items() if name is not None},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it; `stores` is left out where it is empty."""
        content = {key: value for key, value in asdict(self).items() if key != "stores"}
        return content | (
            {"stores": {name: part.to_dict() for name, part in self.stores.items()}} if self.stores else {}
        )


@torch.no_grad()
def evaluate(
    model: NeuralOperator,
    dataset: QueryDataset,
    *,
    samples: Sequence[int] | None = None,
    batch_size: int = 4,
    query_chunk: int = 65536,
) -> DenseErrors:
    """Evaluate on every point of every sample, whatever the model was trained on.

    Args:
        model: put into evaluation mode, and back; computes where it lies.
        dataset: drawn by a `DenseSampler`.
        samples: numbers of the samples to evaluate on; all if None.
        batch_size: samples at a time.
        query_chunk: points decoded at a time, which bounds the memory.

    Raises:
        DatasetError: the dataset does not take every point.
    """
    if not isinstance(dataset.sampler, DenseSampler):
        raise DatasetError(f"evaluation is always dense: give the dataset a DenseSampler, not {dataset.sampler!r}")
    was_training = model.training
    model.eval()
    chosen = range(len(dataset)) if samples is None else samples
    errors: list[dict[str, Float[torch.Tensor, " batch"]]] = []
    for start in range(0, len(chosen), batch_size):
        batch = collate_samples([dataset[index] for index in chosen[start : start + batch_size]])
        errors.append(_errors_by_sample(model, batch.to(model.device), query_chunk))
    model.train(was_training)
    means = {key: float(torch.cat([part[key] for part in errors]).mean()) for key in errors[0]}
    names = [field.name for field in model.problem.target_fields]
    return DenseErrors(
        relative_l2=means["relative_l2"],
        vrmse={name: means[f"vrmse {name}"] for name in names},
        nrmse={name: means[f"nrmse {name}"] for name in names},
        num_samples=len(chosen),
    )


def _errors_by_sample(
    model: NeuralOperator, batch: SparseBatch, query_chunk: int
) -> dict[str, Float[torch.Tensor, " batch"]]:
    # Clouds of several sizes are padded, values may be missing: neither counts.
    drawn = batch.query_mask if batch.has_fresh_points else batch.query_mask[:, None]
    valid = drawn[..., None].expand(batch.query_targets.shape)
    if batch.target_valid is not None:
        valid = valid & batch.target_valid
    target = batch.denormalize(batch.query_targets)
    sizes = {field.name: field.channels for field in model.problem.target_fields}
    predicted = batch.denormalize(model.predict(batch, query_chunk=query_chunk))
    return dense_errors(predicted, target, valid, sizes)


def dense_errors(
    predicted: Float[torch.Tensor, "batch time query channel"],
    target: Float[torch.Tensor, "batch time query channel"],
    valid: Bool[torch.Tensor, "batch time query channel"],
    sizes: Mapping[str, int],
) -> dict[str, Float[torch.Tensor, " batch"]]:
    """Return `relative_l2`, and `vrmse NAME` and `nrmse NAME` of each field, of each sample; see `DenseErrors`.

    Args:
        predicted: in physical units; finite also where it does not count.
        target: the same of the truth.
        valid: what counts.
        sizes: channels of each field, in their order.
    """
    target = target * valid
    error = (predicted - target) * valid
    entries = valid.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = target.sum(dim=(1, 2), keepdim=True) / entries
    centred = (target - mean) * valid
    found = {"relative_l2": _ratio_of_norms(error, target)}
    start = 0
    for name, channels in sizes.items():
        part = slice(start, start + channels)
        found[f"vrmse {name}"] = _ratio_of_norms(error[..., part], centred[..., part])
        found[f"nrmse {name}"] = _ratio_of_norms(error[..., part], target[..., part])
        start += channels
    return found


def _ratio_of_norms(
    error: Float[torch.Tensor, "batch time query channel"], size: Float[torch.Tensor, "batch time query channel"]
) -> Float[torch.Tensor, " batch"]:
    return error.flatten(1).norm(dim=1) / size.flatten(1).norm(dim=1).clamp(min=_TINY)
