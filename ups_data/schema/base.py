"""Names, limits and the base of all records."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import pydantic

FORMAT_NAME = "ups-data"
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 256 * 2**20
MAX_POINTS = 2**31 - 1

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")

GeometryKind = Literal["grid", "points", "mesh"]
CodecName = Literal["none", "zstd", "blosc-lz4", "blosc-zstd"]
CurveName = Literal["hilbert", "morton"]
AxisKind = Literal["linear", "longitude", "latitude", "colatitude"]
Estimand = Literal["mean", "integral"]
SchemeName = Literal["linear", "cubic"]


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is no valid name: a letter first, then letters, digits, '_', '.' or '-', at most 128"
        )
    return value


Name = Annotated[str, pydantic.AfterValidator(_check_name)]
Count = Annotated[int, pydantic.Field(ge=0, le=2**53)]
Positive = Annotated[int, pydantic.Field(ge=1, le=2**53)]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Record(pydantic.BaseModel):
    """Base of every schema record: frozen, strict, no unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)
