"""What is to be converted and how: options of `convert`, and of the verbs that tell what `convert` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import typer

from preprocess.cli.values import parse_numbers, parse_options, parse_recipe
from preprocess.settings import ConvertSettings
from preprocess.sources import SOURCES, Source, open_source
from preprocess.sources.off_grid import OffGridSource
from ups_data.errors import ConfigError, SchemaError
from ups_data.importance import METRICS, check_metrics, default_recipe
from ups_data.schema import MAX_POINTS, CodecName, Estimand, OffGridSpec, SchemeName
from ups_data.yaml_records import parse_record, parse_yaml

_IMPORTANCE_HELP = (
    f"Metrics and weights: gradient=1,temporal_change=1. One of {', '.join(METRICS)}, or your own: module:function. "
    "distance:NAME tells what to: a boundary, a mask, missing or edges; error:CHECKPOINT whose errors. "
    "Beside them exponent, floor, and clip.quantile or clip.times_mean."
)


class OffGridChoice(pydantic.BaseModel):
    """Points between the nodes of grids, as they are asked for.

    Attributes:
        scheme: `linear` or `cubic`.
        ratio: points over nodes; 1 unless `points` is given.
        points: points of every trajectory.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    scheme: SchemeName
    ratio: Annotated[float, pydantic.Field(gt=0, le=1024)] | None = None
    points: Annotated[int, pydantic.Field(ge=1, le=MAX_POINTS)] | None = None

    @pydantic.model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if self.ratio is not None and self.points is not None:
            raise ValueError("give ratio or points, not both")
        return self

    def spec(self, *, seed: int) -> OffGridSpec:
        """Return the record that a source takes."""
        ratio = 1.0 if self.ratio is None and self.points is None else self.ratio
        return OffGridSpec(scheme=self.scheme, ratio=ratio, points=self.points, seed=seed)


class ConvertConfig(ConvertSettings):
    """What a configuration file of `convert` may hold: the settings, and how the source is read.

    Attributes:
        format: name of the source's format; recognised by content if None.
        options: what the format needs to be told.
        off_grid: points between the nodes of its grids that are to be converted, instead of the nodes.
    """

    format: str | None = None
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    off_grid: OffGridChoice | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Sources and settings as they are typed; None is what was not typed."""

    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Files of one data set.")]
    format: Annotated[
        str | None, typer.Option("--format", help=f"One of {', '.join(SOURCES)}; recognised by content otherwise.")
    ] = None
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")] = None
    importance: Annotated[str | None, typer.Option("--importance", help=_IMPORTANCE_HELP)] = None
    strata: Annotated[int | None, typer.Option("--strata", help="Bands of importance.")] = None
    block_points: Annotated[
        int | None, typer.Option("--block-points", help="Neighbours that share a band of importance; 1 for each alone.")
    ] = None
    page_points: Annotated[int | None, typer.Option("--page-points", help="Points of a page.")] = None
    frames_per_block: Annotated[
        int | None, typer.Option("--frames-per-block", help="Frames that share an importance map; all by default.")
    ] = None
    target_span: Annotated[
        int | None, typer.Option("--target-span", help="Frames that targets of a window may span within a block; 8.")
    ] = None
    estimand: Annotated[
        Estimand | None, typer.Option("--estimand", help="What draws estimate: the mean over points, or the integral.")
    ] = None
    dense: Annotated[
        Literal["auto", "stored", "rebuilt"] | None,
        typer.Option("--dense", help="Dense frames: stored beside the pages, or rebuilt from them; auto."),
    ] = None
    codec: Annotated[
        CodecName | None, typer.Option("--codec", help="Compressor; rows shorter than 8 KiB stay as they are.")
    ] = None
    round_mantissa_bits: Annotated[
        int | None, typer.Option("--round-mantissa-bits", help="Bits of the mantissa that values keep; all by default.")
    ] = None
    round_float16: Annotated[
        bool | None, typer.Option("--round-float16", help="Round values to those that a float16 holds.")
    ] = None
    split: Annotated[
        str | None, typer.Option("--split", help="Shares where the source has no splits: train=0.8,valid=0.1,test=0.1.")
    ] = None
    off_grid: Annotated[
        SchemeName | None,
        typer.Option(
            "--off-grid", help="Make a store of points between the nodes, interpolated so, for the grid's own."
        ),
    ] = None
    off_grid_ratio: Annotated[
        float | None, typer.Option("--off-grid-ratio", help="Points between nodes for each node; 1 by default.")
    ] = None
    off_grid_points: Annotated[
        int | None, typer.Option("--off-grid-points", help="Points between nodes of each trajectory, instead.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the split, of the dealing of pages, and of points between nodes.")
    ] = None
    option: Annotated[
        list[str] | None, typer.Option("--option", help="KEY=VALUE for the source's format; may be repeated.")
    ] = None

    def open(self, *, name: str | None = None) -> tuple[Source, ConvertSettings]:
        """Open the source as the configuration file and what was typed above it say.

        Args:
            name: of the store, where one was typed.

        Raises:
            ConfigError: the file or what was typed breaks a rule.
            SourceError: the source cannot be read.
        """
        typed = {
            "format": self.format,
            "name": name,
            "num_strata": self.strata,
            "block_points": self.block_points,
            "page_points": self.page_points,
            "frames_per_block": self.frames_per_block,
            "target_span": self.target_span,
            "estimand": self.estimand,
            "dense": self.dense,
            "codec": self.codec,
            "round_mantissa_bits": self.round_mantissa_bits,
            "round_float16": self.round_float16,
            "seed": self.seed,
            "splits": None if self.split is None else parse_numbers(self.split, "--split"),
            "importance": None if self.importance is None else parse_recipe(self.importance),
            "options": parse_options(self.option or []) or None,
            "off_grid": self._off_grid() or None,
        }
        settings = read_config(self.config, {key: value for key, value in typed.items() if value is not None})
        source = open_source(self.sources, settings.format, settings.options)
        if settings.off_grid is not None:
            source = OffGridSource(source, settings.off_grid.spec(seed=settings.seed))
        return source, ConvertSettings(**settings.model_dump(exclude={"format", "options", "off_grid"}))

    def _off_grid(self) -> dict[str, Any]:
        typed = {"scheme": self.off_grid, "ratio": self.off_grid_ratio, "points": self.off_grid_points}
        return {key: value for key, value in typed.items() if value is not None}


def read_config(path: Path | None, typed: Mapping[str, Any]) -> ConvertConfig:
    """Read the configuration file and put what was typed above it.

    Raises:
        ConfigError: the file cannot be read, or a value of either breaks a rule.
    """
    content: dict[str, Any] = {}
    where = "the command line"
    if path is not None:
        where = f"{path.name} with the command line"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
        parsed = parse_yaml(text, where=path.name)
        # Checked alone first, so that a message about it names it and not the command line.
        parse_record(ConvertConfig, _with_metrics(parsed), where=path.name)
        content = dict(parsed)
    for key, value in typed.items():
        # A metric typed changes the metrics alone, not the exponent that the file states.
        joins = key in {"importance", "options", "off_grid"} and isinstance(content.get(key), Mapping)
        content[key] = {**content[key], **value} if joins else value
    settings = parse_record(ConvertConfig, _with_metrics(content), where=where)
    if settings.importance is not None:
        try:
            check_metrics(settings.importance)
        except SchemaError as error:
            raise ConfigError(str(error)) from error
    return settings


def _with_metrics(content: Any) -> Any:
    """Put the default metrics into a recipe that states other things alone."""
    recipe = content.get("importance") if isinstance(content, Mapping) else None
    if not isinstance(recipe, Mapping) or "metrics" in recipe:
        return content
    return {**content, "importance": {"metrics": default_recipe().metrics, **recipe}}
