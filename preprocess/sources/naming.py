"""Names that a source gives to fields, axes and parameters: held to what a store can name."""

from __future__ import annotations

import pydantic

from ups_data.errors import SourceError
from ups_data.schema import FieldSpec, Name

_NAME: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(Name)


def check_name(name: str, *, where: str) -> str:
    """Return a name that a store can hold.

    Raises:
        SourceError: blanks, slashes or another sign that no name of a store has; names `where`.
    """
    try:
        return _NAME.validate_python(name)
    except pydantic.ValidationError as error:
        raise SourceError(f"{where}: {error.errors()[0]['ctx']['error']}") from error


def storable_name(name: str) -> str:
    """Return the name that a variable has in a store: those that begin with a digit (`2t`) get `var_` before it."""
    return f"var_{name}" if name[:1].isdigit() else name


def name_field(name: str, components: tuple[str, ...] = ("",), *, unit: str | None = None, where: str) -> FieldSpec:
    """Describe a field by the name that its source gives it.

    Raises:
        SourceError: a name that no store can hold, or components that are not distinct; names `where`.
    """
    check_name(name, where=where)
    if not components or len(set(components)) != len(components):
        raise SourceError(f"{where}: field {name!r} needs one or more distinct components, got {components}")
    return FieldSpec(name=name, components=components, unit=unit)
