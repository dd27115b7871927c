"""Measure on a store's own fields that draws are unbiased, and what they are worth beside uniform ones."""

from preprocess.prove.layout_records import Candidate, LayoutReport, LayoutRow, RatioRow
from preprocess.prove.layouts import recommend_layout
from preprocess.prove.measure import SAMPLERS, prove
from preprocess.prove.records import DrawRow, EstimateRow, ProveReport, ReadCost

__all__ = [
    "SAMPLERS",
    "Candidate",
    "DrawRow",
    "EstimateRow",
    "LayoutReport",
    "LayoutRow",
    "ProveReport",
    "RatioRow",
    "ReadCost",
    "prove",
    "recommend_layout",
]
