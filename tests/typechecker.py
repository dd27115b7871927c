"""The checker that executes annotations while the tests run."""

from typing import Self

from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(
    conf=BeartypeConf(
        # An int may be given for a float (PEP 484), as mypy has it.
        is_pep484_tower=True,
        # jaxtyping decorates method by method; beartype knows Self only in decorated classes.
        hint_overrides=FrozenDict({Self: object}),
    )
)
