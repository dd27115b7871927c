"""What a data set is: fields, axes, splits, statistics, layout, and the manifest that binds them to bytes.

All records are frozen and checked when made; unknown keys are refused. The manifest is JSON, written
last by a conversion: where there is no manifest, there is no store. `docs/format.md` specifies it.
"""

from ups_data.schema.base import (
    FORMAT_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_POINTS,
    AxisKind,
    CodecName,
    Count,
    CurveName,
    Estimand,
    Finite,
    GeometryKind,
    Name,
    Positive,
    Record,
    SchemeName,
)
from ups_data.schema.data import (
    AxisSpec,
    BoundarySpec,
    ChannelStatistics,
    FieldSpec,
    GeometrySpec,
    ParameterSpec,
)
from ups_data.schema.manifest import (
    FileEntry,
    Fingerprinted,
    Manifest,
)
from ups_data.schema.recipe import (
    ClipSpec,
    DeviationSpec,
    ImportanceSpec,
    LayoutSpec,
    OffGridSpec,
    RoundingError,
    RoundingRule,
    RoundingSpec,
    SourceFingerprint,
    SourceSpec,
)

__all__ = [
    "FORMAT_NAME",
    "MANIFEST_NAME",
    "MAX_MANIFEST_BYTES",
    "MAX_POINTS",
    "AxisKind",
    "AxisSpec",
    "BoundarySpec",
    "ChannelStatistics",
    "ClipSpec",
    "CodecName",
    "Count",
    "CurveName",
    "DeviationSpec",
    "Estimand",
    "FieldSpec",
    "FileEntry",
    "Fingerprinted",
    "Finite",
    "GeometryKind",
    "GeometrySpec",
    "ImportanceSpec",
    "LayoutSpec",
    "Manifest",
    "Name",
    "OffGridSpec",
    "ParameterSpec",
    "Positive",
    "Record",
    "RoundingError",
    "RoundingRule",
    "RoundingSpec",
    "SchemeName",
    "SourceFingerprint",
    "SourceSpec",
]
