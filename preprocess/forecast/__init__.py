"""What a conversion will write, need and take, before it is made."""

from preprocess.forecast.make import forecast
from preprocess.forecast.records import Forecast, FrameReads, Memory, PartSize, Sample
from preprocess.forecast.sizes import measure_sizes

__all__ = ["Forecast", "FrameReads", "Memory", "PartSize", "Sample", "forecast", "measure_sizes"]
