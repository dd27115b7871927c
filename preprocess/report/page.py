"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from preprocess.inspect import format_bytes
from preprocess.report import figures, markup
from preprocess.report.markup import (
    count,
    counted,
    duration,
    paragraph,
    percent,
    plain,
    signed,
    size,
    text,
    times,
)
from preprocess.report.records import DrawExample, DrawnPoints, Proof, Report, Run, RunName, Stream
from preprocess.report.style import STYLE_SHEET

_CLOSE = 0.03
_SAMPLER_MARKS = {"importance": ("sparse", "o"), "uniform": ("dense", "s")}
_OTHER_MARKS = (("third", "D"), ("muted", "^"), ("muted", "v"))


def write_report(report: Report, path: Path) -> Path:
    """Write the page; it takes its name when it is complete.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    staged = path.with_name(f".{path.name}.staged")
    staged.write_text(render_report(report), encoding="utf-8")
    return staged.replace(path)


def render_report(report: Report) -> str:
    """Return the page as text.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    figures.check_matplotlib()
    parts = (
        _header(report),
        _draw_section(report),
        _proof_section(report.proof),
        _stream_section(report),
        _training_section(report),
        _prediction_section(report),
        _origin_section(report),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.problem.title)}: sparse and dense training</title>"
        f'<link rel="icon" href="data:,"><style>{STYLE_SHEET}</style></head>\n'
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _header(report: Report) -> str:
    sparse, dense, stream = report.sparse, report.dense, report.stream
    worth = report.proof.multiplier(stream.sparse.sampler)
    return (
        f'<header><p class="kicker">ups_data · sparse queries for neural PDE surrogates · {text(report.created)}</p>'
        f"<h1>{_headline(sparse, dense)}</h1>"
        f'<p class="standfirst">{_standfirst(report)}</p>'
        f'<dl class="figures">'
        + _key_figure(
            "Error on all points of unseen simulations, after equal training time",
            percent(sparse.final_error),
            f"against {percent(dense.final_error)} of the dense run",
        )
        + _time_figure(sparse, dense)
        + _key_figure(
            "Target data read for a training sample",
            size(stream.sparse.query_bytes),
            f"against {size(stream.dense.query_bytes)} for every point",
        )
        + _key_figure(
            "Worth of a drawn point, in uniform random points",
            times(worth, digits=2) if worth else "unknown",
            f"in variance; geometric mean over {text(report.problem.field)}, its square and its change",
        )
        + "</dl></header>"
    )


def _headline(sparse: Run, dense: Run) -> str:
    share = f"{percent(sparse.ratio)} of the points"
    spent = duration(float(sparse.seconds[-1]))
    errors = percent(sparse.final_error), percent(dense.final_error)
    if sparse.final_error < (1 - _CLOSE) * dense.final_error:
        return (
            f"Trained on {share}, the model errs by {errors[0]} after {spent}. Trained on all of them, by {errors[1]}."
        )
    if sparse.final_error <= (1 + _CLOSE) * dense.final_error:
        return f"Trained on {share}, the model errs as on all of them after {spent}: {errors[0]} against {errors[1]}."
    return f"In this run the dense training came out ahead: {errors[1]} against {errors[0]} with {share} after {spent}."


def _standfirst(report: Report) -> str:
    problem, sparse, dense = report.problem, report.sparse, report.dense
    return (
        f"Two runs of one model on {text(problem.title)}, {problem.shape[0]} \u00d7 {problem.shape[1]} points, with "
        f'the same time to train on the same machine. The <span class="sparse">sparse run</span> computes its loss on '
        f"points drawn by importance, with exact weights; it takes {duration(sparse.step_seconds)} a step and makes "
        f'{count(sparse.num_steps)} steps. The <span class="dense">dense run</span> takes every point, '
        f"{duration(dense.step_seconds)} a step, and makes {count(dense.num_steps)}."
    )


def _key_figure(term: str, value: str, against: str) -> str:
    return f'<div><dt>{term}</dt><dd class="number">{value}</dd><dd class="against">{against}</dd></div>'


def _time_figure(sparse: Run, dense: Run) -> str:
    reached = sparse.seconds_to(dense.final_error)
    total = duration(float(dense.eval_seconds[-1]))
    if reached is None:
        return _key_figure("Time to the dense run's final error", "not reached", f"by the sparse run; dense: {total}")
    return _key_figure("Time to the dense run's final error", duration(reached), f"against {total} of the dense run")


def _draw_section(report: Report) -> str:
    problem, example = report.problem, report.example
    field, importance = figures.Scale.of_field(example.values), figures.Scale.of_importance(example.importance)
    span = _weight_span(example)
    drawn = "".join(_points_picture(draw, example, span) for draw in example.draws)
    place = f"trajectory {example.trajectory}, frame {example.frame}"
    share = len(example.draws[0].stands_for) / problem.num_points
    return markup.section(
        "draws",
        "Points are drawn where the field is sharp, and weighted for it",
        paragraph(
            "While a data set is converted, an importance map is computed for every simulation from its gradients and "
            "its change in time, and points are dealt to pages: small groups that lie all over one band of importance.",
            "A draw reads whole pages, more of them from the bands where it matters. Each drawn point stands for as "
            "many points of the field as its band holds for each one drawn, so that weighted sums stay unbiased.",
        ),
        markup.figure(
            f"{markup.equation(problem.equation)}. {text(place.capitalize())}, "
            f"t = {example.time:g}{_unit(problem.time_unit)}. {text(problem.axes[0])} runs to the right, "
            f"{text(problem.axes[1])} upwards. Both draws take {percent(share)} of the {count(problem.num_points)} "
            f"points. The area of a dot is in proportion to its weight.",
            '<div class="pictures two">',
            _scaled_picture(
                f"{text(problem.field.capitalize())}{_in_unit(problem.unit)}",
                figures.draw_field(example.values, field),
                f"The field {problem.field} at t = {example.time:g}, with sharp fronts",
                field,
            ),
            _scaled_picture(
                "Importance (mean 1, logarithmic)",
                figures.draw_field(example.importance, importance),
                "Importance map of the same simulation: high along the fronts and where they pass",
                importance,
            ),
            drawn,
            "</div>",
        ),
    )


def _scaled_picture(title: str, source: str, alt: str, scale: figures.Scale) -> str:
    ticks = "".join(f"<span>{_tick(tick)}</span>" for tick in scale.ticks())
    return (
        f'<div class="picture"><h3>{title}</h3><img src="{source}" alt="{text(alt)}">'
        f'<img class="bar" src="{figures.draw_colour_bar(scale)}" alt=""><div class="ticks">{ticks}</div></div>'
    )


def _points_picture(draw: DrawnPoints, example: DrawExample, span: tuple[float, float]) -> str:
    distinct, numbers = np.unique(draw.stands_for.round(9), return_counts=True)
    entries = [
        (colour, f"{count(points)} points, each for {plain(weight)}")
        for colour, weight, points in zip(
            figures.weight_colours(distinct, span), distinct.tolist(), numbers.tolist(), strict=True
        )
    ]
    source = figures.draw_points(draw.coordinates, draw.stands_for, extent=example.extent, span=span)
    title = {"importance": "Drawn by importance", "uniform": "Drawn uniformly at random"}.get(
        draw.sampler, draw.sampler
    )
    alt = f"{len(draw.stands_for)} points, {title.lower()}"
    return (
        f'<div class="picture"><h3>{text(title)}</h3><img src="{source}" alt="{text(alt)}">'
        f"{markup.dot_legend(entries)}</div>"
    )


def _weight_span(example: DrawExample) -> tuple[float, float]:
    everything = np.concatenate([draw.stands_for for draw in example.draws])
    return float(everything.min()), float(everything.max())


def _proof_section(proof: Proof) -> str:
    samplers = [row.sampler for row in proof.draws]
    marks = _marks_of(samplers)
    shown = [row for row in proof.rows if row.multiplier is not None]
    words = "; ".join(f"{row.integrand}, {row.sampler}: {markup.significant(row.multiplier or 0, 3)}" for row in shown)
    trajectories = counted(proof.num_trajectories, "trajectory", "trajectories")
    chart = figures.draw_dots(
        [figures.Dot(row=row.integrand, value=row.multiplier or 0, mark=marks[row.sampler]) for row in shown],
        name="worth",
        alt=f"Variance of uniform draws over that of each sampler. {words}",
        x_label="Worth of one drawn point, in uniform random points",
    )
    return markup.section(
        "proof",
        "The weights are exact, and a point drawn is worth several",
        paragraph(
            f"Means of this very data set were estimated from {count(proof.num_draws)} draws of each sampler, "
            f"{percent(proof.ratio)} of the points each, from {trajectories} of the {text(proof.split)} split, and "
            f"held against the truth.",
            _verdict(proof),
        ),
        markup.figure(
            "Variance of as many uniform random points, divided by the variance of these draws: geometric mean over "
            "frames and trajectories. To the right is better; at 1 a draw gains nothing.",
            markup.line_legend((marks[name][0], "0 99", marks[name][1], text(name)) for name in samplers),
            chart,
        ),
        _estimate_table(proof),
        _draws_table(proof),
    )


def _verdict(proof: Proof) -> str:
    largest, limit = plain(proof.largest_z, digits=2), plain(proof.z_limit, digits=2)
    if proof.ok:
        return (
            f"No bias was found: of {count(proof.num_tests)} estimates the worst is {largest} standard errors off, and "
            f"chance alone explains up to {limit}."
        )
    return (
        f"<strong>The draws failed.</strong> Of {count(proof.num_tests)} estimates the worst is {largest} standard "
        f"errors off, where {limit} is the limit; <code>ups-preprocess prove</code> tells more."
    )


def _marks_of(samplers: list[str]) -> dict[str, tuple[str, str]]:
    others = iter(_OTHER_MARKS * len(samplers))
    return {name: _SAMPLER_MARKS.get(name) or next(others) for name in samplers}


def _estimate_table(proof: Proof) -> str:
    rows, before = [], ""
    for row in proof.rows:
        known = row.multiplier is not None and row.least_multiplier is not None
        rows.append(
            (
                "" if row.integrand == before else text(row.integrand),
                text(row.sampler),
                count(row.num_tests),
                signed(row.largest_z),
                times(row.multiplier or 0) if known else "exact",
                times(row.least_multiplier or 0) if known else "",
            )
        )
        before = row.integrand
    header = ("mean of", "sampler", "tests", "worst bias,<br>standard errors", "variance gain,<br>mean", "least")
    return markup.table("Estimates held against the truth", header, rows, kind="two-words")


def _draws_table(proof: Proof) -> str:
    rows = [
        (
            text(row.sampler),
            count(row.num_points),
            count(row.effective_points),
            times(row.largest_weight, digits=2),
            plain(row.weight_sum, digits=6),
            size(row.point_bytes),
            size(row.value_bytes),
            size(row.index_bytes),
            plain(row.num_ranges, digits=2),
        )
        for row in proof.draws
    ]
    header = (
        "sampler",
        "points",
        "effective<br>sample size",
        "largest weight<br>/ mean weight",
        "sum of<br>weights",
        "size of the<br>drawn values",
        "read for<br>values",
        "read for<br>ids",
        "ranges",
    )
    return markup.table("One draw from one frame", header, rows)


def _stream_section(report: Report) -> str:
    stream, problem = report.stream, report.problem
    sparse, dense = stream.sparse, stream.dense
    return markup.section(
        "bytes",
        "What is read and shipped follows the points drawn, not the size of the field",
        paragraph(
            f"The encoder needs its whole input frame, {size(sparse.input_bytes)} a sample, in every run. All the rest "
            f"follows the draw: {size(sparse.query_bytes)} are read for {count(sparse.num_points)} drawn points, whose "
            f"values and ids alone are {size(sparse.point_bytes)}; that is "
            f"{plain(sparse.query_bytes / sparse.point_bytes)} times the physical limit.",
            f"A loader that takes every point of the {count(problem.num_points)} ships {size(dense.shipped_bytes)} a "
            f"sample, this one {size(sparse.shipped_bytes)}. Speed is another matter while all files lie in memory, as "
            f"they do here: {_speeds(stream)} samples a second.",
        ),
        markup.figure(
            "Bytes of one training sample: read from the store, counted at the file system, and shipped from a worker "
            "to the training process in one packed buffer of values, coordinates, weights and ids.",
            markup.dot_legend(_byte_legend(stream), tick="input and bytes of the drawn points: no reader can do less"),
            figures.draw_bars(_byte_bars(stream), name="bytes", alt=_byte_alt(stream), x_label="KiB a sample"),
        ),
        _stream_table(stream),
    )


def _speeds(stream: Stream) -> str:
    return ", ".join(f"{text(row.sampler)} {plain(row.samples_per_s)}" for row in stream.rows)


def _byte_legend(stream: Stream) -> list[tuple[str, str]]:
    rows = zip(_row_colours(stream), stream.rows, strict=True)
    named = [(f"var(--{colour})", f"{text(row.sampler)}: {text(row.note)}") for colour, row in rows]
    return [("var(--input)", "input frame of the encoder"), *named]


def _row_colours(stream: Stream) -> list[str]:
    return ["sparse", *["third"] * (len(stream.rows) - 2), "dense"]


def _byte_bars(stream: Stream) -> dict[str, list[figures.Bar]]:
    read, shipped = [], []
    for colour, row in zip(_row_colours(stream), stream.rows, strict=True):
        limit = (row.input_bytes + row.point_bytes) / 1024
        read.append(_byte_bar(row.sampler, colour, row.input_bytes, row.read_bytes, limit))
        shipped.append(_byte_bar(row.sampler, colour, row.shipped_input_bytes, row.shipped_bytes, None))
    return {"Read from the store": read, "Shipped to the training process": shipped}


def _byte_bar(name: str, colour: str, inputs: float, total: float, limit: float | None) -> figures.Bar:
    parts = (("input", inputs / 1024), (colour, (total - inputs) / 1024))
    return figures.Bar(name=name, parts=parts, text=format_bytes(round(total)), limit=limit)


def _byte_alt(stream: Stream) -> str:
    parts = [f"{row.sampler}: {row.read_bytes:.0f} read, {row.shipped_bytes:.0f} shipped" for row in stream.rows]
    return f"Bytes of a sample. {'; '.join(parts)}"


def _stream_table(stream: Stream) -> str:
    dense = stream.dense
    rows = [
        (
            f"{text(row.sampler)}<br><small>{text(row.note)}</small>",
            count(row.num_points),
            size(row.query_bytes),
            size(row.point_bytes),
            times(row.query_bytes / row.point_bytes),
            plain(row.read_ranges, digits=2),
            size(row.shipped_bytes),
            percent(row.shipped_bytes / dense.shipped_bytes),
            plain(row.samples_per_s),
        )
        for row in stream.rows
    ]
    header = (
        "sampler",
        "points<br>a sample",
        "read for<br>targets",
        "limit: bytes<br>of the points",
        "read /<br>limit",
        "ranges,<br>with input",
        "shipped",
        "of dense",
        "samples<br>per second",
    )
    table = markup.table("Per training sample", header, rows)
    note = (
        '<p class="note">Limit: points \u00d7 (values of 4 bytes for each target frame and channel, and an id of 4 '
        f"bytes unless every point is taken). Speed: one process, warm cache, batches of {count(stream.batch_size)}; "
        f"median of {count(stream.num_rounds)} rounds of {count(stream.num_batches)} batches, loaders taking turns.</p>"
    )
    return table + note


def _training_section(report: Report) -> str:
    sparse, dense = report.sparse, report.dense
    legend = markup.line_legend(
        [
            ("sparse", "", "o", f"sparse run: {text(sparse.sampler)}"),
            ("dense", "5 3", "s", f"dense run: {text(dense.sampler)}"),
        ]
    )
    charts = "".join(_training_charts(sparse, dense))
    return markup.section(
        "training",
        f"By the clock, the {'sparse' if sparse.final_error < dense.final_error else 'dense'} run is ahead",
        paragraph(
            f"Errors are always measured on every point: the relative L2 error of predicted fields, in physical units, "
            f"mean over {counted(sparse.eval_samples, 'sample', 'samples')} spread evenly over the test split. The "
            f"loss of the sparse run is the weighted estimate of what the dense run computes, hence noisier. Time is "
            f"training time, evaluation not counted.",
        ),
        markup.figure(
            "Above: loss of each step (thin) and its running median. Below: error on all points of the test split. "
            "Left by optimiser step, right by wall-clock; all vertical axes are logarithmic.",
            legend,
            f'<div class="charts">{charts}</div>',
        ),
        _run_table(sparse, dense),
    )


def _training_charts(sparse: Run, dense: Run) -> list[str]:
    charts = []
    for kind, y_label in (("loss", "Training loss (normalised units²)"), ("error", "Test error on all points")):
        for axis, x_label in (("step", "optimiser step"), ("time", "training time, s")):
            lines = [line for run in (dense, sparse) for line in _run_lines(run, kind=kind, by_time=axis == "time")]
            charts.append(
                figures.draw_lines(
                    lines,
                    name=f"{kind}-{axis}",
                    alt=f"{y_label} by {x_label}. " + "; ".join(_curve_words(run, kind) for run in (sparse, dense)),
                    x_label=x_label,
                    y_label=y_label,
                    format_y=(lambda value: f"{value:g}") if kind == "loss" else _percent_tick,
                )
            )
    return charts


def _run_lines(run: Run, *, kind: str, by_time: bool) -> list[figures.Line]:
    dashed = run.name == "dense"
    if kind == "error":
        x = run.eval_seconds if by_time else run.eval_steps.astype(np.float64)
        marker = "o" if run.name == "sparse" else "s"
        return [figures.Line(colour=run.name, x=x, y=run.eval_errors, marker=marker, dashed=dashed)]
    x = run.seconds if by_time else np.arange(1.0, run.num_steps + 1)
    return [
        figures.Line(colour=run.name, x=x, y=run.losses, width=0.6, strength=0.3),
        figures.Line(colour=run.name, x=x, y=_running_median(run.losses), dashed=dashed),
    ]


def _running_median(values: Float64[np.ndarray, " step"]) -> Float64[np.ndarray, " step"]:
    """Return the median of the values around each one, a twentieth of all of them."""
    half = max(1, values.size // 40)
    padded = np.pad(values, half, mode="reflect") if values.size > half else np.pad(values, half, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def _curve_words(run: Run, kind: str) -> str:
    values = run.losses if kind == "loss" else run.eval_errors
    return f"{run.name} run: from {values[0]:.3g} to {values[-1]:.3g}"


def _run_table(sparse: Run, dense: Run) -> str:
    rows = [
        (
            f'<span class="{run.name}">{run.name}</span>',
            text(run.sampler),
            count(run.num_steps),
            duration(float(run.seconds[-1])),
            duration(run.step_seconds),
            percent(run.waited / float(run.seconds[-1])),
            percent(run.final_error),
            percent(float(run.eval_errors.min())),
        )
        for run in (sparse, dense)
    ]
    header = (
        "run",
        "points of the loss",
        "steps",
        "training<br>time",
        "time<br>a step",
        "of it waiting<br>for batches",
        "test error<br>at the end",
        "lowest<br>test error",
    )
    return markup.table("The two runs", header, rows, kind="two-words")


def _prediction_section(report: Report) -> str:
    problem, prediction = report.problem, report.prediction
    fields = figures.Scale.of_field(prediction.input, prediction.target, *prediction.predicted.values())
    errors = {name: values - prediction.target for name, values in prediction.predicted.items()}
    largest = max(float(np.abs(part).max()) for part in errors.values())
    differences = figures.Scale.of_errors(largest)
    unit = _unit(problem.unit)
    pictures = [
        markup.picture(
            f"Input, t = {prediction.input_time:g}{_unit(problem.time_unit)}",
            figures.draw_field(prediction.input, fields),
            f"The field {problem.field} that both models are given",
        ),
        markup.picture(
            f"Truth, t = {prediction.target_time:g}{_unit(problem.time_unit)}",
            figures.draw_field(prediction.target, fields),
            f"The field {problem.field} that both models are to predict",
        ),
    ]
    for name in ("sparse", "dense"):
        pictures += _predicted_pictures(report, name, fields, differences)
    return markup.section(
        "predictions",
        "What the models predict at every point of a simulation they never saw",
        markup.figure(
            f"Test trajectory {prediction.trajectory}, frame {prediction.input_frame} to {prediction.target_frame}. "
            f"All fields share one colour scale, both errors another. Largest error at a point: sparse "
            f"{plain(float(np.abs(errors['sparse']).max()))}{unit}, dense "
            f"{plain(float(np.abs(errors['dense']).max()))}{unit}.",
            f'<div class="pictures three">{"".join(pictures)}</div>',
            markup.scale_bar(
                f"{text(problem.field.capitalize())}{_in_unit(problem.unit)}",
                figures.draw_colour_bar(fields),
                [_tick(tick) for tick in fields.ticks()],
            ),
            markup.scale_bar(
                f"Error: predicted \u2212 true{_in_unit(problem.unit)}",
                figures.draw_colour_bar(differences),
                [_tick(tick) for tick in differences.ticks()],
            ),
        ),
    )


def _predicted_pictures(
    report: Report, name: RunName, fields: figures.Scale, differences: figures.Scale
) -> tuple[str, str]:
    prediction = report.prediction
    values = prediction.predicted[name]
    title = f'<span class="{name}">{name.capitalize()} run</span>'
    return (
        markup.picture(title, figures.draw_field(values, fields), f"The field predicted by the {name} run"),
        markup.picture(
            f"{title}, error",
            figures.draw_field(values - prediction.target, differences),
            f"Predicted minus true field of the {name} run",
            f"relative L2 error {percent(prediction.error(name))}",
        ),
    )


def _origin_section(report: Report) -> str:
    problem = report.problem
    splits = ", ".join(f"{name} {number}" for name, number in problem.splits.items())
    data = (
        ("data set", f"{text(problem.title)}: {markup.equation(problem.equation)}"),
        ("points of a frame", f"{problem.shape[0]} \u00d7 {problem.shape[1]} = {count(problem.num_points)}"),
        ("frames", count(problem.num_frames)),
        ("trajectories", text(splits)),
        ("input to target", text(f"{problem.lead:g}{_unit(problem.time_unit)} ahead")),
    )
    facts = [(text(name), text(value)) for name, value in {**report.settings, **report.machine}.items()]
    spent = [(text(name), duration(seconds)) for name, seconds in report.stage_seconds.items()]
    spent.append(("all", duration(sum(report.stage_seconds.values()))))
    return markup.section(
        "origin",
        "How this page was made",
        paragraph("Everything on it was measured on this machine; nothing is copied from elsewhere."),
        markup.listing((command.line, command.purpose) for command in report.commands),
        '<div class="beside"><div>',
        markup.table("Data, settings, machine", (), [*data, *facts], kind="words"),
        "</div><div>",
        markup.table("Time spent", (), spent),
        "</div></div>",
    )


def _unit(unit: str) -> str:
    return f"\u202f{text(unit)}" if unit else ""


def _in_unit(unit: str) -> str:
    return f" ({text(unit)})" if unit else ""


def _tick(value: float) -> str:
    return "0" if value == 0 else markup.significant(value, 2)


def _percent_tick(value: float) -> str:
    return f"{100 * value:g} %"
