"""What a conversion will write, need and take, before it is made."""

from preprocess.forecast.make import forecast
from preprocess.forecast.records import Forecast, Memory, PartSize, Sample
from preprocess.forecast.sizes import measure_sizes

__all__ = ["Forecast", "Memory", "PartSize", "Sample", "forecast", "measure_sizes"]
