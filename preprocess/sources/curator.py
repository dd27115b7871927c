"""PhysicsNeMo-Curator's Zarr v1 and DoMINO's `.npz`: surfaces and volumes around a body, one run a file.

A run has the centres of the cells on a surface (`surface_mesh_centers`, `surface_fields`, `surface_areas`,
`surface_normals`), or in a volume (`volume_mesh_centers`, `volume_fields`), or both: then an option chooses. Columns of
fields are not named in the files: by default a surface has p and the wall shear stress tau (x, y, z), a volume U (x, y,
z), p and nut, and `fields` names others. Areas become measures, normals a field; the numbers that Curator knows of a
run become parameters. The triangles of the body (`stl_*`) are not converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pydantic

from preprocess.sources.array_files import StoredArray, find_array, list_arrays
from preprocess.sources.axes import as_float
from preprocess.sources.curator_layout import CENTERS, FIELDS, looks_like_curator
from preprocess.sources.naming import check_name, name_field
from preprocess.sources.stored_clouds import Columns, StoredCloud, StoredCloudSource
from preprocess.sources.zarr_files import is_zarr, read_zarr_attributes
from ups_data.errors import SourceError
from ups_data.schema import FieldSpec, Record
from ups_data.yaml_records import parse_record

_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "surface": {"p": 1, "tau": 3},
    "volume": {"U": 3, "p": 1, "nut": 1},
}
_COMPONENTS = ("x", "y", "z")
_AREAS, _NORMALS = "surface_areas", "surface_normals"
_VALUES, _REFERENCE = "global_params_values", "global_params_reference"
# Of the metadata, what tells the processing and not the physics.
_PROCESSING = {"num_points", "num_faces", "decimation_reduction", "zarr_format"}


class CuratorOptions(Record):
    """What may be told of runs.

    Attributes:
        domain: `surface` or `volume`, of files that have both.
        fields: number of columns of each field, in their order: `{p: 1, tau: 3}`.
        parameters: names of the entries of `global_params_values`, in their order.
        drop_faulty: leave out surface cells without area; otherwise they are refused.
    """

    domain: Literal["surface", "volume"] | None = None
    fields: dict[str, Annotated[int, pydantic.Field(ge=1, le=9)]] | None = pydantic.Field(default=None, min_length=1)
    parameters: tuple[str, ...] | None = None
    drop_faulty: bool = False


class CuratorSource(StoredCloudSource):
    """Runs of one data set."""

    format: ClassVar[str] = "curator"
    summary: ClassVar[str] = "PhysicsNeMo-Curator's Zarr v1 or DoMINO .npz (surface or volume around a body)"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the names of arrays."""
        return looks_like_curator(path)

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open runs of one data set; `options` are those of `CuratorOptions`."""
        chosen = parse_record(CuratorOptions, options, where="options of format 'curator'")
        domain = _choose_domain(paths[0], chosen)
        first = {array.key: array for array in list_arrays(paths[0])}
        columns = _name_columns(first, domain, chosen, paths[0])
        fields = tuple(_describe_field(name, count, paths[0]) for name, count in columns.items())
        with_normals = domain == "surface" and _NORMALS in first
        if with_normals:
            fields = (*fields, name_field("normals", _COMPONENTS, where=paths[0].name))
        notes: list[str] = ["the triangles of the body (stl_*) are not converted"]
        clouds = [_open_run(path, domain, columns, chosen, with_normals=with_normals) for path in paths]
        names = {tuple(sorted(cloud.parameters)) for cloud in clouds}
        if len(names) > 1:
            raise SourceError(f"{paths[0].name} and others tell different parameters: {sorted(names)[:3]}")
        return cls(
            name=paths[0].stem,
            paths=paths,
            fields=fields,
            clouds=clouds,
            drop_faulty=chosen.drop_faulty,
            notes=notes,
        )


def _choose_domain(path: Path, options: CuratorOptions) -> str:
    names = {array.key for array in list_arrays(path)} if is_zarr(path) or path.is_file() else set()
    found = [domain for domain in CENTERS if {CENTERS[domain], FIELDS[domain]} <= names]
    if options.domain is not None and options.domain not in found:
        raise SourceError(
            f"{path} has no {options.domain}; it has {' and '.join(found) or 'neither surface nor volume'}"
        )
    if not found:
        raise SourceError(
            f"{path} is no run of Curator: it needs {CENTERS['surface']} and {FIELDS['surface']}, or "
            f"{CENTERS['volume']} and {FIELDS['volume']}"
        )
    if options.domain is None and len(found) > 1:
        raise SourceError(f"{path} has {' and '.join(found)}; say which: --option domain=surface, or domain=volume")
    return options.domain or found[0]


def _name_columns(
    arrays: Mapping[str | None, StoredArray], domain: str, options: CuratorOptions, path: Path
) -> Mapping[str, int]:
    shape = arrays[FIELDS[domain]].shape
    named = options.fields or _DEFAULTS[domain]
    count = shape[1] if len(shape) == 2 else 1
    if sum(named.values()) != count:
        told = ", ".join(f"{name}: {number}" for name, number in named.items())
        raise SourceError(
            f"{path.name}: {FIELDS[domain]} has {count} columns, and {{{told}}} are {sum(named.values())}; name them "
            f"in their order: --option 'fields={{p: 1, ...}}'"
        )
    return named


def _describe_field(name: str, count: int, path: Path) -> FieldSpec:
    components = ("",) if count == 1 else _COMPONENTS if count == 3 else tuple(map(str, range(count)))
    return name_field(name, components, where=path.name)


def _open_run(
    path: Path, domain: str, named: Mapping[str, int], options: CuratorOptions, *, with_normals: bool
) -> StoredCloud:
    values = find_array(path, FIELDS[domain])
    columns, first = [], 0
    for count in named.values():
        columns.append(Columns(array=values, first=first, stop=first + count))
        first += count
    if values.shape[1:] not in {(first,), ()}:
        raise SourceError(f"{values.where} has shape {values.shape}; {first} columns are wanted, as in the first run")
    if with_normals:
        columns.append(Columns(array=find_array(path, _NORMALS), first=0, stop=3))
    return StoredCloud(
        item=path.name,
        coordinates=find_array(path, CENTERS[domain]),
        columns=tuple(columns),
        measures=find_array(path, _AREAS) if domain == "surface" else None,
        parameters={check_name(name, where=path.name): value for name, value in _read_parameters(path, options)},
    )


def _read_parameters(path: Path, options: CuratorOptions) -> Iterator[tuple[str, float]]:
    """Go through the numbers of a run: arrays of one entry, or attributes, and global parameters."""
    arrays = {array.key: array for array in list_arrays(path)}
    if is_zarr(path):
        attributes = read_zarr_attributes(path)
        constants = attributes.get("physics_constants")
        for name, value in {**attributes, **(constants if isinstance(constants, dict) else {})}.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name not in _PROCESSING:
                yield name, as_float(value, where=f"{path.name}: attribute {name}")
    for name, array in arrays.items():
        if name is not None and array.shape == () and array.dtype.kind in "iuf":
            yield name, as_float(array.load(), where=array.where)
    for key, prefix in ((_VALUES, "global"), (_REFERENCE, "reference")):
        if key in arrays:
            yield from _read_globals(arrays[key], prefix, options)


def _read_globals(array: StoredArray, prefix: str, options: CuratorOptions) -> Iterator[tuple[str, float]]:
    values = np.asarray(array.load()).reshape(-1)
    names = options.parameters or tuple(map(str, range(values.size)))
    if len(names) != values.size:
        raise SourceError(f"{array.where} has {values.size} entries, and option parameters names {len(names)}")
    for name, value in zip(names, values, strict=True):
        yield f"{prefix}_{name}", as_float(value, where=array.where)
