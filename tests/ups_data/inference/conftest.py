"""The store and the configuration of the tests of training."""

from tests.ups_data.training.conftest import make_config, store

__all__ = ["make_config", "store"]
