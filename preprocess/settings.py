"""What a user may choose about a conversion: one strict record, read from YAML or the command line."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic

from ups_data.schema import CodecName, CurveName, Estimand, ImportanceSpec, Name, RoundingRule

_MIB = 2**20


class ConvertSettings(pydantic.BaseModel):
    """Settings of a conversion; None means that the value is chosen from the size of the data.

    Attributes:
        name: name of the store; the destination's by default.
        page_points: entries of a page.
        num_strata: bands of importance.
        block_points: consecutive points of the curve that share a stratum.
        curve: space-filling curve.
        frames_per_block: frames after which a trajectory begins another layout, with an importance map of its own; None
            for one layout a trajectory.
        target_span: frames from the first to the last target of the longest window that shall lie whole in a block;
            each block stores `target_span - 1` frames of the next one too. 8 where there are blocks.
        importance: recipe of the importance maps; gradient and temporal change, alike, if None.
        codec: compressor of the inner chunks (rows).
        min_compressed_bytes: rows of fewer bytes are stored as they are, which is faster to read, and smaller: a
            compressor's own header outweighs what it saves (`scripts/study_codecs.py`).
        round_mantissa_bits: bits of the mantissa that values keep, 1 to 22 of float32 and to 51 of float64; the others
            are rounded to the nearest, ties to even, which compresses better. All are kept if None.
        round_float16: round values to the nearest that a float16 holds; they are stored in their own dtype all the
            same.
        dense: store dense frames beside the pages (`stored`), rebuild them from pages (`rebuilt`), or store them where
            all trajectories share one grid (`auto`).
        estimand: what draws estimate, the `mean` over points or the `integral` over the domain; with `integral`, the
            importance of a point is that of its field times the measure of its cell.
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
    frames_per_block: Annotated[int, pydantic.Field(ge=1, le=2**53)] | None = None
    target_span: Annotated[int, pydantic.Field(ge=1, le=2**53)] | None = None
    importance: ImportanceSpec | None = None
    codec: CodecName = "none"
    min_compressed_bytes: Annotated[int, pydantic.Field(ge=1, le=2**31)] = 8192
    round_mantissa_bits: Annotated[int, pydantic.Field(ge=1, le=51)] | None = None
    round_float16: bool = False
    dense: Literal["auto", "stored", "rebuilt"] = "auto"
    estimand: Estimand = "mean"
    splits: dict[Name, Annotated[float, pydantic.Field(gt=0, le=1)]] | None = None
    seed: Annotated[int, pydantic.Field(ge=0, le=2**53)] = 0
    shard_mib: Annotated[int, pydantic.Field(ge=1, le=4096)] = 32

    @pydantic.model_validator(mode="after")
    def _span_belongs_to_blocks(self) -> Self:
        if self.target_span is not None and self.frames_per_block is None:
            raise ValueError("target_span is of blocks of frames: give frames_per_block too")
        return self

    @pydantic.model_validator(mode="after")
    def _rounds_in_one_way(self) -> Self:
        if self.round_float16 and self.round_mantissa_bits is not None:
            raise ValueError("values are rounded in one way: give round_mantissa_bits or round_float16")
        return self

    @pydantic.field_validator("splits")
    @classmethod
    def _splits_add_up(cls, splits: dict[str, float] | None) -> dict[str, float] | None:
        if splits is not None and abs(sum(splits.values()) - 1) > 1e-9:
            raise ValueError(f"shares of the splits must add up to 1, got {splits}")
        return splits

    def codec_of_rows(self, row_bytes: int) -> CodecName:
        """Return the codec of an array whose rows have so many bytes."""
        return self.codec if row_bytes >= self.min_compressed_bytes else "none"

    @property
    def rounding(self) -> RoundingRule | None:
        """How values shall be rounded; None where they are stored as they are."""
        if self.round_mantissa_bits is None and not self.round_float16:
            return None
        return RoundingRule(mantissa_bits=self.round_mantissa_bits)

    @property
    def shard_bytes(self) -> int:
        """Size of a full shard before compression."""
        return self.shard_mib * _MIB
