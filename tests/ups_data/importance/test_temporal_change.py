"""Changes from frame to frame, on grids and on clouds."""

import numpy as np

from tests.ups_data.importance.cases import BOUNDED, maps_of, subject_of
from ups_data.importance import ImportanceMap
from ups_data.importance.temporal_change import TemporalChangeMetric
from ups_data.schema import ImportanceSpec


def test_it_is_the_rms_over_steps() -> None:
    frames = np.multiply.outer([0.0, 3.0, -1.0], np.ones((1, 64)))
    np.testing.assert_allclose(maps_of(TemporalChangeMetric, frames, BOUNDED), np.sqrt((9 + 16) / 2))


def test_a_single_frame_does_not_change() -> None:
    assert not maps_of(TemporalChangeMetric, np.ones((1, 2, 64)), BOUNDED).any()


def test_the_step_that_leads_to_the_first_frame_counts_where_there_is_one() -> None:
    frames = np.array([0.0, 3.0, 7.0])[:, None, None] * np.ones((1, 1, 64))
    spec = ImportanceSpec(metrics={"temporal_change": 1.0, "value": 1.0})
    geometry = BOUNDED
    metric = TemporalChangeMetric(geometry, subject_of(geometry))
    metric.precede(frames[0])
    metric.update(frames[1])
    np.testing.assert_allclose(metric.result(), 3.0)
    # The frame before is none of the map's own: where it alone has a value, there is nothing to draw.
    later = np.where(np.arange(64) < 9, np.nan, frames[1:])
    whole = ImportanceMap(spec, geometry, subject_of(geometry))
    whole.begin(list(frames[:1]), np.arange(3.0), np.empty(0))
    for frame in later:
        whole.update(frame)
    assert whole.num_points == 55
    assert np.isnan(whole.result()[:9]).all()
