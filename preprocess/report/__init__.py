"""The report of a whole run, from fields to trained models: one HTML page, from plain records."""

from preprocess.report.page import render_report, write_report
from preprocess.report.proof import summarise_proof
from preprocess.report.records import (
    Command,
    DrawExample,
    DrawnPoints,
    Prediction,
    Problem,
    Proof,
    ProofDraws,
    ProofRow,
    Report,
    Run,
    RunName,
    Stream,
    StreamRow,
)

__all__ = [
    "Command",
    "DrawExample",
    "DrawnPoints",
    "Prediction",
    "Problem",
    "Proof",
    "ProofDraws",
    "ProofRow",
    "Report",
    "Run",
    "RunName",
    "Stream",
    "StreamRow",
    "render_report",
    "summarise_proof",
    "write_report",
]
