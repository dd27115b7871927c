"""Where the samples of a run come from: strict records, each default exactly once."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic

import ups_data
from ups_data.dataset import QueryDataset
from ups_data.errors import ConfigError
from ups_data.mixture import Batches, MixtureDataset, members_of
from ups_data.order import BlockShuffle, Shuffle, StreamShuffle
from ups_data.samplers import Sampler
from ups_data.schema import ChannelStatistics, Estimand, Record
from ups_data.storage import Store
from ups_data.window import TargetPoints

AtLeastOne = Annotated[int, pydantic.Field(ge=1)]
AtLeastZero = Annotated[int, pydantic.Field(ge=0)]


class WindowConfig(Record):
    """Which frames make a sample; see `ups_data.Window`."""

    inputs: AtLeastOne = 1
    targets: AtLeastOne = 1
    stride: AtLeastOne = 1
    lead: AtLeastZero = 1
    drawn_targets: AtLeastOne | None = None
    points: TargetPoints = "same"


class ShuffleConfig(Record):
    """In which order samples come; see `ups_data.BlockShuffle` and `ups_data.StreamShuffle`, which have the defaults.

    Attributes:
        kind: `full` permutes all samples of an epoch, `none` keeps their order, `block` mixes whole blocks of
            neighbours, `stream` goes through the store in sequence.
        block: samples of a block, of `block` and `stream`; what a shard of the store holds if None, of a mixture the
            least that one of a store holds.
        mixed: blocks that `block` mixes.
        lanes, run: places that `stream` reads side by side, and neighbours that it reads at once.
    """

    kind: Literal["full", "none", "block", "stream"] = "full"
    block: AtLeastOne | None = None
    mixed: AtLeastOne | None = None
    lanes: AtLeastOne | None = None
    run: AtLeastOne | None = None

    @pydantic.model_validator(mode="after")
    def _keys_belong_to_the_kind(self) -> Self:
        taken = {"block": {"block", "mixed"}, "stream": {"block", "lanes", "run"}}.get(self.kind, set())
        if foreign := sorted(set(self.model_dump(exclude={"kind"}, exclude_none=True)) - taken):
            allowed = f"takes {', '.join(sorted(taken))}" if taken else "takes no other key"
            raise ValueError(f"kind: {self.kind} {allowed}, not {', '.join(foreign)}")
        return self

    def build(self, dataset: QueryDataset | MixtureDataset) -> Shuffle:
        """Return the order of a dataset's samples."""
        if self.kind in {"full", "none"}:
            return self.kind == "full"
        held = min(member.samples_per_shard for member in members_of(dataset).values())
        sizes = {"block": held, **self.model_dump(exclude={"kind"}, exclude_none=True)}
        return BlockShuffle(**sizes) if self.kind == "block" else StreamShuffle(**sizes)


class MixedStoreConfig(Record):
    """A store of a mixture.

    Attributes:
        store: path of the store.
        queries: path of the store whose points are trained on, see `DataConfig`.
        weight: share in the batches, in any unit; all stores of a mixture have one, or none has.
    """

    store: str
    queries: str | None = None
    weight: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | None = None

    def open(self) -> Store:
        """Open the store."""
        return ups_data.open_store(self.store)

    def open_queries(self) -> Store | None:
        """Open the store whose points are trained on, None where it is that of the inputs."""
        return None if self.queries is None else ups_data.open_store(self.queries)


class MixtureConfig(Record):
    """Several stores that one model is trained on; see `ups_data.MixtureDataset`.

    Attributes:
        stores: by name; the order in which they are written does not matter.
        batches: `homogeneous`, each of one store, or `padded`, each of samples of all of them.
        epoch_batches: batches of an epoch, if it is to be another number than `MixtureDataset` has.
    """

    stores: dict[str, MixedStoreConfig] = pydantic.Field(min_length=1)
    batches: Batches = "homogeneous"
    epoch_batches: AtLeastOne | None = None

    @pydantic.field_validator("stores", mode="after")
    @classmethod
    def _in_order(cls, stores: dict[str, MixedStoreConfig]) -> dict[str, MixedStoreConfig]:
        # Records that are equal make equal streams of batches, and equal dictionaries may differ in order.
        return dict(sorted(stores.items()))

    @pydantic.model_validator(mode="after")
    def _weighs_all_or_none(self) -> Self:
        without = [name for name, part in self.stores.items() if part.weight is None]
        if without and len(without) < len(self.stores):
            raise ValueError(f"give every store a weight or none of them: {', '.join(without)} has none")
        return self

    @property
    def weights(self) -> dict[str, float] | None:
        """Shares by name, None where none are given."""
        given = {name: part.weight for name, part in self.stores.items() if part.weight is not None}
        return given or None


class DataConfig(Record):
    """Where samples come from.

    Attributes:
        store: path of the store; or
        mixture: several stores that one model is trained on, see `ups_data.training.run_data` for what they must share.
            All other keys hold for each of them.
        queries: path of another store of the same trajectories whose points are trained on, such as points between the
            nodes of a grid; evaluation stays on all points of `store`.
        split, test_split: splits to train and to evaluate on.
        window: frames of a sample.
        input_fields, target_fields: names; all fields if None.
        batch_size: samples of a batch.
        num_workers: worker processes.
        shuffle: in which order samples come.
        test_samples: evaluate on at most so many samples, spread evenly over the split, of each store; on all if None.
    """

    store: str | None = None
    mixture: MixtureConfig | None = None
    queries: str | None = None
    split: str = "train"
    test_split: str = "test"
    window: WindowConfig = WindowConfig()
    input_fields: tuple[str, ...] | None = None
    target_fields: tuple[str, ...] | None = None
    batch_size: AtLeastOne = 16
    num_workers: AtLeastZero = 0
    shuffle: ShuffleConfig = ShuffleConfig()
    test_samples: AtLeastOne | None = None

    @pydantic.model_validator(mode="after")
    def _names_stores_once(self) -> Self:
        if self.mixture is not None and self.store is not None:
            raise ValueError(
                "store and mixture both say where samples come from; give one of them (store: null takes a store back)"
            )
        if self.mixture is not None and self.queries is not None:
            raise ValueError("a mixture has queries for each of its stores: give mixture.stores.NAME.queries instead")
        return self

    def open(self) -> Store:
        """Open the store.

        Raises:
            ConfigError: none is named, or several are.
        """
        if self.mixture is not None:
            named = ", ".join(f"{name} ({part.store})" for name, part in self.mixture.stores.items())
            raise ConfigError(
                f"the run is on a mixture of stores, {named}, and this is done with one: name it by its path"
            )
        return self.parts[None].open()

    @property
    def parts(self) -> dict[str | None, MixedStoreConfig]:
        """The stores of the mixture by name, or the one that there is, under None.

        Raises:
            ConfigError: no store is named.
        """
        parts: dict[str | None, MixedStoreConfig] = {}
        if self.mixture is not None:
            parts.update(self.mixture.stores)
        elif self.store is None:
            raise ConfigError("no store is named; set data.store in the configuration, or data.store=PATH behind it")
        else:
            parts[None] = MixedStoreConfig(store=self.store, queries=self.queries)
        return parts

    def with_all_targets(self) -> Self:
        """Return the same with all target frames of the window in every sample, at the same points."""
        every = self.window.model_copy(update={"drawn_targets": None, "points": "same"})
        return self.model_copy(update={"window": every})

    def build(
        self,
        store: Store,
        sampler: Sampler,
        *,
        split: str,
        seed: int = 0,
        statistics: tuple[ChannelStatistics, ...] | None = None,
        estimand: Estimand | None = None,
        queries: Store | None = None,
    ) -> QueryDataset:
        """Return the dataset of a split with these fields and this window."""
        return QueryDataset(
            store,
            sampler=sampler,
            queries=queries,
            split=split,
            window=ups_data.Window(**self.window.model_dump()),
            seed=seed,
            input_fields=self.input_fields,
            target_fields=self.target_fields,
            statistics=statistics,
            estimand=estimand,
        )
