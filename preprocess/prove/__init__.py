"""Measure on a store's own fields that draws are unbiased, and what they are worth beside uniform ones."""

from preprocess.prove.bias import BiasRow
from preprocess.prove.estimates import EstimateRow
from preprocess.prove.layout_records import Candidate, LayoutReport, LayoutRow, RatioRow
from preprocess.prove.layouts import recommend_layout
from preprocess.prove.measure import SAMPLERS, prove
from preprocess.prove.records import DrawRow, ProveReport, ReadCost
from preprocess.prove.size_records import SizeReport, SizeRow
from preprocess.prove.sizes import measure_sizes

__all__ = [
    "SAMPLERS",
    "BiasRow",
    "Candidate",
    "DrawRow",
    "EstimateRow",
    "LayoutReport",
    "LayoutRow",
    "ProveReport",
    "RatioRow",
    "ReadCost",
    "SizeReport",
    "SizeRow",
    "measure_sizes",
    "prove",
    "recommend_layout",
]
