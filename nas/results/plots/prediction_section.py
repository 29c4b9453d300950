"""The part of the HTML page of a run that shows predictions: pictures and charts of a network that the reader chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from nas.engine.predictions import Predictions
from nas.results.analysis.network_selection import knee
from nas.results.analysis.report import RunReport
from nas.results.plots.plotly_charts import figure_of
from nas.results.plots.prediction_charts import LARGEST_NAME, chart_words, prediction_charts
from nas.results.plots.prediction_pictures import images_html, note_on, pictures_html


def network_names(predictions: Predictions, report: RunReport) -> dict[str, str]:
    """The networks that have predictions and were measured, by key: ``network 12``; the largest one last."""
    names = {key: f"network {report.numbers[key]}" for key in predictions.networks if key in report.numbers}
    return names | {predictions.networks[predictions.largest]: LARGEST_NAME}


def shown_first(predictions: Predictions, report: RunReport) -> str:
    """The key of the network that is shown first: the member of the front with predictions that is nearest to its knee, else
    the largest network."""
    members = [point.key for point in report.front]
    if not members:
        return predictions.networks[predictions.largest]
    centre = members.index(knee(report).key)
    nearest = sorted(range(len(members)), key=lambda i: abs(i - centre))
    present = [members[i] for i in nearest if members[i] in predictions.networks]
    return present[0] if present else predictions.networks[predictions.largest]


def predictions_section(predictions: Predictions, names: Mapping[str, str], first: str) -> str:
    """The part as text; a script of the page changes the network.

    Args:
        predictions: Predictions of the run.
        names: Names of networks by key, see `network_names`.
        first: Key of the network that is shown first.
    """
    places = {key: predictions.networks.index(key) for key in names}
    charts = {key: prediction_charts(predictions, place, names[key]) for key, place in places.items()}
    figures = {
        key: {name: figure_of(chart) for name, chart in of_network.items()} for key, of_network in charts.items()
    }
    options = "".join(
        f'<option value="{escape(key)}"{" selected" if key == first else ""}>{escape(name)}</option>'
        for key, name in names.items()
    )
    pictures = {key: pictures_html(predictions, place, names[key]) for key, place in places.items()}
    templates = "".join(f'<template data-pictures="{escape(key)}">{text}</template>' for key, text in pictures.items())
    data = {
        key: {
            name: {"traces": figures[key][name].traces, "words": chart_words(chart)}
            for name, chart in of_network.items()
        }
        for key, of_network in charts.items()
    }
    data_text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    drawn = "".join(
        f"<h3>{escape(chart.title)}</h3>\n{figures[first][name].div(f'predictions-{name}')}"
        for name, chart in charts[first].items()
    )
    return (
        f"<h2>Predictions</h2>\n<p>{escape(note_on(predictions))}</p>\n{images_html(predictions)}"
        f'<p><label>Network <select id="predictions-network">{options}</select></label></p>'
        f'<div id="predictions-pictures">{pictures[first]}</div>{templates}\n'
        f'<script type="application/json" id="predictions-data">{data_text}</script>\n{drawn}'
    )
