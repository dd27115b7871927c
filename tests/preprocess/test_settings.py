"""Settings are checked when they are made."""

import pydantic
import pytest

from preprocess.settings import ConvertSettings


def test_defaults_are_chosen_from_the_data() -> None:
    settings = ConvertSettings()
    assert (settings.page_points, settings.num_strata, settings.block_points) == (None, None, None)
    assert settings.importance is None
    assert settings.shard_bytes == settings.shard_mib * 2**20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"page_point": 8}, "Extra inputs are not permitted"),
        ({"page_points": 0}, "greater than or equal to 1"),
        ({"num_strata": 65}, "less than or equal to 64"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"codec": "gzip"}, "Input should be 'none'"),
        ({"name": "a/b"}, "is no valid name"),
        ({"splits": {"train": 0.5, "test": 0.4}}, "must add up to 1, got"),
        ({"splits": {"train": 1.0, "test": 0.0}}, "greater than 0"),
        ({"importance": {"metrics": {}}}, "at least 1 item"),
    ],
)
def test_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        ConvertSettings(**values)
