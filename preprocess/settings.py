"""What a user may choose about a conversion: one strict record, read from YAML or the command line."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from ups_data.schema import CodecName, CurveName, ImportanceSpec, Name

_MIB = 2**20


class ConvertSettings(pydantic.BaseModel):
    """Settings of a conversion; None means that the value is chosen from the size of the data.

    Attributes:
        name: name of the store; the destination's by default.
        page_points: entries of a page.
        num_strata: bands of importance.
        block_points: consecutive points of the curve that share a stratum.
        curve: space-filling curve.
        importance: recipe of the importance maps; gradient and temporal change, alike, if None.
        codec: compressor of the inner chunks.
        dense: store dense frames beside the pages (`stored`), rebuild them from pages (`rebuilt`), or store them where
            all trajectories share one grid (`auto`).
        splits: share of trajectories in each split, for sources that bring none; adds up to 1.
        seed: seed of the split and of the dealing.
        shard_mib: size of a full shard before compression.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: Name | None = None
    page_points: Annotated[int, pydantic.Field(ge=1, le=2**20)] | None = None
    num_strata: Annotated[int, pydantic.Field(ge=1, le=64)] | None = None
    block_points: Annotated[int, pydantic.Field(ge=1, le=2**20)] | None = None
    curve: CurveName = "hilbert"
    importance: ImportanceSpec | None = None
    codec: CodecName = "none"
    dense: Literal["auto", "stored", "rebuilt"] = "auto"
    splits: dict[Name, Annotated[float, pydantic.Field(gt=0, le=1)]] | None = None
    seed: Annotated[int, pydantic.Field(ge=0, le=2**53)] = 0
    shard_mib: Annotated[int, pydantic.Field(ge=1, le=4096)] = 32

    @pydantic.field_validator("splits")
    @classmethod
    def _splits_add_up(cls, splits: dict[str, float] | None) -> dict[str, float] | None:
        if splits is not None and abs(sum(splits.values()) - 1) > 1e-9:
            raise ValueError(f"shares of the splits must add up to 1, got {splits}")
        return splits

    @property
    def shard_bytes(self) -> int:
        """Size of a full shard before compression."""
        return self.shard_mib * _MIB
