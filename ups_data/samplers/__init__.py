"""Samplers: which points of a sample are drawn, with exact weights; and schedules of how many."""

from ups_data.samplers.adaptive import AdaptiveSampler
from ups_data.samplers.balanced import BalancedSampler
from ups_data.samplers.base import DrawKey, FeedbackRule, Sampler
from ups_data.samplers.dense import DenseSampler
from ups_data.samplers.fixed import FixedSampler
from ups_data.samplers.importance import ImportanceSampler
from ups_data.samplers.page_sampler import PageSampler
from ups_data.samplers.schedule import Constant, Cosine, Exponential, Linear, Schedule, Step
from ups_data.samplers.stratified import StratifiedSampler
from ups_data.samplers.uniform import UniformSampler
from ups_data.samplers.weights import Weights

__all__ = [
    "AdaptiveSampler",
    "BalancedSampler",
    "Constant",
    "Cosine",
    "DenseSampler",
    "DrawKey",
    "Exponential",
    "FeedbackRule",
    "FixedSampler",
    "ImportanceSampler",
    "Linear",
    "PageSampler",
    "Sampler",
    "Schedule",
    "Step",
    "StratifiedSampler",
    "UniformSampler",
    "Weights",
]
