"""Measure on a store's own fields that draws are unbiased, and what they are worth beside uniform ones."""

from preprocess.prove.measure import SAMPLERS, prove
from preprocess.prove.records import DrawRow, EstimateRow, ProveReport, ReadCost

__all__ = ["SAMPLERS", "DrawRow", "EstimateRow", "ProveReport", "ReadCost", "prove"]
