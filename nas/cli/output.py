"""Output of commands: JSON for scripts, tables and sentences for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nas.engine
import nas.results
import nas.search
from nas.cli.remedies import remedy_text, run_command
from nas.engine.formatting import (
    change_text,
    constraint_text,
    counted,
    duration,
    format_value,
    memory_size,
    miss_text,
    plain_text,
    prediction_error_text,
    score_text,
    shown_scale,
    shown_unit,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from nas.results.analysis.importance import Importance
    from nas.results.analysis.predictor_accuracy import PredictorAccuracy
    from nas.search.problem.objectives import Objective

_GENES = 5
_MIN_SHARE = 0.01
"""Genes that are listed as important, and the smallest share of the variance that one of them has."""


def print_training(training: dict[str, Any], *, following: str = "") -> None:
    metric = nas.search.TaskMetrics.from_json(training["task"]).metrics[0]
    of = "" if metric.name == "accuracy" else f"{metric.name}, "
    reason = f"; {training['reason']}" if training["reason"] else ""
    print(
        f"{training['run']}: training, {training['status']}, epoch {training['epoch']} of {training['epochs']}{reason}"
    )
    if following:
        print(f"next: {following}")
    rows = [
        [
            str(e["epoch"]),
            f"{e['loss']:.4f}",
            plain_text(metric, e["largest"]),
            plain_text(metric, e["smallest"]),
            f"{e['seconds']:.0f}",
        ]
        for e in training["history"]
    ]
    print_table(["epoch", "loss", f"largest ({of}validation)", f"smallest ({of}validation)", "seconds"], rows)
    if training["status"] == "finished":
        print(f"search it with   supernet: {{from: {training['run']}}}")


def print_expert_usage(usage: Mapping[str, Any]) -> None:
    """Prints the usage of experts, as `nas.results.export.expert_usage` computes it."""
    print(
        f"{usage['run']}: experts of the network {usage['network']}, on {usage['examples']} examples of the validation part"
    )
    print_table(
        ["layer", "active experts", "load entropy", "share of tokens routed to each expert (%)"],
        [
            [
                layer["name"],
                f"{layer['mean_active_experts']:.2f}".removesuffix(".00"),
                f"{layer['entropy']:.2f}",
                " ".join(f"{100 * s:.0f}" for s in layer["usage"]),
            ]
            for layer in usage["layers"]
        ],
    )
    for layer in usage["layers"]:
        if layer["unused"]:
            listed = ", ".join(map(str, layer["unused"]))
            print(
                f"{layer['name']}: no token is routed to {listed}; search fewer experts (supernet.space.experts), or train "
                "with a larger training.balance_loss"
            )


def print_nested(nested: Any, expression: str) -> None:
    """Prints the largest nested networks within limits."""
    matching = nested.satisfying(expression)
    timed = any("@" in name for name in matching[0][1])
    print(
        f"{nested.run}: {len(matching)} of {len(nested.networks)} nested networks are within {expression.strip()}, "
        f"largest first (computed costs; {'only latency is' if timed else 'nothing is'} measured yet)"
    )
    rows = [
        [
            "best" if i == 0 else "",
            *(nas.results.value_text(value) for value in costs.values()),
            network.key,
            ", ".join(f"{name} {value}" for name, value in nested.supernet.space.values(network).items()),
        ]
        for i, (network, costs) in enumerate(matching[::-1][:10])
    ]
    print_table(["", *matching[0][1], "architecture", "options"], rows)
    print(f'score and export the best with   nas export {nested.run} --select "{expression.strip()}"')
    print(f"measure them with   supernet: {{from: {nested.run}}}   and   search: {{algorithm: random}}")


def print_report(
    run: nas.Run, report: nas.results.RunReport, *, live: bool = False, profile: str | None = None
) -> None:
    """Prints a search: its state, front, anchors and predictors.

    Args:
        live: True if it has a driver now.
        profile: The hardware profile that the report is of; None for all. Networks are numbered by the front of all.
    """
    status = nas.engine.shown_status(report.status, live=live)
    why = run.waiting or report.reason
    reason = f"; {why}" if why else ""
    print(f"{report.run}: {status}, {report.evaluations_text}{reason}")
    runs = run.runs.root
    if (following := run.next_step) is not None:
        print(f"next: {remedy_text(following, runs)}")
    if failed := run.failures():
        print(f"{len(failed)} could not be measured; for the reasons: {run_command('show', run.id, runs)} --failed")
    if report.constraints:
        print(f"constraints: {', '.join(constraint_text(c) for c in report.constraints)}")
    if report.nearest is not None and report.nearest.miss.broken:
        print(f"no network satisfies them; the nearest has {miss_text(report.nearest.miss)}")
    joint = report if profile is None else run.report
    points = [(number(joint, point), point) for point in report.front]
    if report.nearest is not None:
        points.append(("nearest", report.nearest.point))
    print_points(report, points + [(name, point) for name, point in report.anchors.items()])
    for name, front in report.fronts.items():
        numbers = ", ".join(number(report, point, is_named=True) for point in front)
        print(f"front of {name} alone: {numbers or 'none'} (--profile {name} shows it)")
    if report.front_hypervolume is not None:
        reference = ", ".join(f"{name} {value:.4g}" for name, value in report.reference.items())
        outside = f"; {report.outside_text}" if report.outside_text else ""
        print(f"hypervolume of the front {report.front_hypervolume:.5g} (reference point: {reference}{outside})")
    print(report.guidance or f"{report.algorithm or 'the search'}: no predictors were fitted")
    if report.steps_text:
        print(f"{report.steps_text}; all steps: {run_command('show', run.id, runs)} --steps")
    for name, predictor in report.predictors.items():
        quality, objective = predictor.latest, next(o for o in report.objectives if o.name == name)
        tau = "" if quality.get("kendall_tau") is None else f"Kendall tau {quality['kendall_tau']:.2f}"
        values = [quality.get("model", "?"), tau, prediction_error_text(objective, quality)]
        print(f"predictor of {name}: {', '.join(filter(None, values))} (cross-validated)")


def print_steps(report: nas.results.RunReport) -> None:
    """Prints the steps of a search as a table, and below it the models of each metric with all weights in the last step."""
    if not report.steps:
        return print(
            f"{report.run}: no step has recorded how its networks were chosen; models do so from their first step"
        )
    shown = nas.results.shown_steps(report.steps)
    extent = "" if len(shown) == len(report.steps) else f" ({len(shown)} of them, evenly spaced; --json has all)"
    print(f"{report.run}: {counted(len(report.steps), 'step')} of {report.label}{extent}")
    metrics = list(dict.fromkeys(name for step in shown for name in step.models))
    rows = [
        [
            str(step.step),
            *("–" if number is None else f"{number:,}" for number in (step.generations, step.bred, step.candidates)),
            *(str(number) for number in (step.proposed, step.measured)),
        ]
        for step in shown
    ]
    print_table(["step", "generations", "bred", "candidates", "proposed", "measured"], rows)
    print("models, with all weights (τ is Kendall's, cross-validated)")
    for name in metrics:
        print_table(["step", name], [[str(s.step), s.models[name].text] for s in shown if name in s.models])
    return None


def print_selection(report: Any, selected: Any, best: Any, *, joint: Any) -> None:
    """Prints the best network within limits, the front within them by its numbers in the run's, and the best one's blocks.

    Args:
        joint: Report of all profiles, by whose front networks are numbered.
    """
    if selected is report:  # chosen by its name
        print(f"{report.run}: the chosen network, then the front")
    else:
        text = ", ".join(constraint_text(c) for c in selected.constraints)
        print(f"{report.run}: the best of {len(report.candidates)} measured networks with {text}, then the front")
        replaced = ", ".join(constraint_text(c) for c in report.constraints)
        if replaced:
            print(f"replaces the job's constraints: {replaced}")
    print_points(
        selected,
        [
            ("chosen" if selected is report else "best", best),
            *((number(joint, point), point) for point in selected.front),
        ],
    )
    if (blocks := nas.results.block_table(report, best)) is not None:
        print(f"blocks of the best: {blocks.basis}")
        print_table(blocks.titles, [row.cells() for row in blocks.rows])


def print_failures(run: str, failures: Sequence[nas.results.FailedNetwork], *, retry: str) -> None:
    """Prints the networks that could not be measured, and the command that tries them again."""
    if not failures:
        return print(f"{run}: no measurement failed")
    rows = []
    for network in failures:
        reasons: dict[tuple[str, str, int], list[str]] = {}
        for m in network.measurements:
            longer = " (longer protocol)" if m.fidelity == "final" else " (test part)" if m.fidelity == "test" else ""
            reasons.setdefault((str(m.result), m.reason, m.attempts), []).append(f"{m.metric}{longer}")
        for i, ((result, reason, attempts), metrics) in enumerate(reasons.items()):
            rows.append(["" if i else network.key, result, ", ".join(metrics), str(attempts), reason])
    print(f"{run}: {counted(len(failures), 'network')} could not be measured")
    print_table(["network", "result", "metrics", "attempts", "reason"], rows)
    return print(f"next: {retry}")


def number(report: Any, point: Any, *, is_named: bool = False) -> str:
    """The index of a member of the run's front, as `--index` takes it; else a dash, or ``network=N`` where it is named."""
    keys = [member.key for member in report.front]
    if point.key in keys:
        return str(keys.index(point.key))
    return f"network={report.numbers[point.key]}" if is_named and point.key in report.numbers else "–"


def print_points(report: Any, points: list[tuple[str, Any]]) -> None:
    """Prints points as a table: their numbers, measured values with their errors, and the task's metric on the test part.

    The first column is the position on the run's front, which changes as the front grows, and is a dash for other networks. The
    second one is the network's own number, which stays. A star marks latencies measured only by the search's shorter protocol.
    """
    variant = [name for name in ("precision", "runtime") if any(getattr(point, name) for _, point in points)]
    header = ["#", "network", *variant, *(o.name for o in report.columns), f"test {report.scored.name}", "architecture"]
    rows = []
    for label, point in points:
        values = [report.value_text(point, o) for o in report.columns]
        variant_cells = [getattr(point, name) for name in variant]
        own_number = str(report.numbers.get(point.key, "–"))
        rows.append(
            [label, own_number, *variant_cells, *values, score_text(report.scored, point.test, missing=""), point.key]
        )
    print_table(header, rows)
    if note := report.note_on(point for _, point in points):
        print(note)


def print_usage(usage: Mapping[str, Any]) -> None:
    """Prints the time by phase and the peak memory of a run, beside what a plan expected, see `Run.usage`."""
    seconds_by_phase, planned = usage["time"], usage["planned"] or {}
    total = {"total": sum(seconds_by_phase.values())}
    rows = [
        [phase, duration(seconds), _planned(planned.get("time", {}).get(phase), "seconds", duration)]
        for phase, seconds in {**seconds_by_phase, **total}.items()
    ]
    if usage["peak_mib"]:
        rows.append(
            ["peak memory", memory_size(usage["peak_mib"]), _planned(planned.get("memory"), "mib", memory_size)]
        )
    n_columns = 3 if planned else 2
    print_table(["", "taken", "planned"][:n_columns], [row[:n_columns] for row in rows])


def _planned(expected: Mapping[str, Any] | None, key: str, text: Callable[[float], str]) -> str:
    """A planned value with its range; "" where none was planned."""
    if expected is None:
        return ""
    return f"{text(expected[key])} ({text(expected['low'])} to {text(expected['high'])})"


def print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich import console, table, text  # a command that prints JSON does without

    grid = table.Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(text.Text(cell) for cell in row))
    stdout = console.Console()
    (stdout if stdout.is_terminal else console.Console(width=200)).print(grid)


def print_json(data: Any) -> None:
    """Prints data, in which models of the API may be."""
    print(json.dumps(data, indent=1, allow_nan=False, default=lambda model: model.model_dump(mode="json")))


def print_result(as_json: bool, data: Any, text: str) -> None:
    """Prints the result of a command: the data for scripts, or else the text."""
    return print_json(data) if as_json else print(text)


def print_list(as_json: bool, data: Any, header: list[str], rows: list[list[str]], *, empty_text: str = "") -> None:
    """Prints a list: the data for scripts, or else a table of the rows; `empty_text` in place of a table without any."""
    if as_json:
        return print_json(data)
    return print_table(header, rows) if rows or not empty_text else print(empty_text)


def progress_bar(*, of_bytes: bool = False) -> Progress:
    """A bar on stderr that only a terminal shows; `of_bytes` is for downloads."""
    from rich import console, progress

    stderr, columns = console.Console(stderr=True), progress.Progress.get_default_columns()
    if of_bytes:
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(28), progress.DownloadColumn())
    return progress.Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


def print_improvement(run: str, improvement: nas.results.Improvement) -> None:
    """Prints a network's scores before and after fine-tuning, and whether they are distinguishable."""
    original, scored = improvement.of, improvement.scored
    scale, points = shown_scale(scored), " points" if shown_unit(scored) == "%" else ""
    digits = ".2f" if points else ".3g"
    print(f"{run}: network {original.network.key} of {original.run}, fine-tuned")
    rows = []
    for part, change in improvement.parts.items():
        compared = change.comparison
        away, error = scale * compared.difference, scale * compared.threshold
        difference = f"{away:+{digits}} ± {error:{digits}}{points} ({compared.method})"
        verdict = difference if compared.distinguishable else f"a tie: {difference}"
        texts = [plain_text(scored, value) for value in (change.before, change.after)]
        rows.append([f"{part} {scored.name}", *texts, verdict])
    print_table(["", "before", "after", "improvement ± two standard errors"], rows)
    epoch, epochs = improvement.best_epoch, improvement.epochs
    if epoch is None:
        print(f"kept: the weights after the last of {epochs} epochs")
    elif epoch == 0:
        print(f"none of {epochs} epochs improved it on the validation part: its weights are unchanged")
    else:
        print(f"kept: the weights after epoch {epoch} of {epochs}, the best on the validation part")
    if not improvement.improved and improvement.best_epoch != 0 and "validation" in improvement.parts:
        better = "its weights improved in fp32, but the network is" if improvement.better_in_fp32 else "the network is"
        export = "" if original.key is None else f": nas export {original.run} --select key={original.key}"
        print(f"{better} no better in {original.precision}; keep the original{export}")


def print_finetunings(finetunings: Sequence[nas.results.Finetuning], *, runs: Path) -> None:
    """Prints the fine-tuned networks of a run of this folder beside the originals; nothing if there are none."""
    if not finetunings:
        return
    scored = finetunings[0].scored
    timed = list(dict.fromkeys(o for finetuning in finetunings for o in finetuning.metrics if o.profile is not None))
    rows = []
    for finetuning in finetunings:
        changes = {} if finetuning.improvement is None else finetuning.improvement.parts
        accuracies = [
            change_text(scored, changes[part].before, changes[part].after) if part in changes else "–"
            for part in ("validation", "test")
        ]
        points = [
            point
            for point in (finetuning.before, finetuning.after)
            if point is not None and finetuning.after is not None
        ]
        values = [
            " → ".join(format_value(o, p.values[o.name], p.errors[o.name]) for p in points if o.name in p.values) or "–"
            for o in timed
        ]
        rows.append(
            [
                finetuning.run,
                finetuning.of.key or finetuning.of.network.key,
                *accuracies,
                *values,
                finetuning.summary[-1],
            ]
        )
    header = [f"validation {scored.name}", f"test {scored.name}", *(o.name for o in timed)]
    print_table(["fine-tuned by", "network", *header, "result"], rows)
    for finetuning in finetunings:
        if finetuning.interrupted:
            print(f"next: {run_command('resume', finetuning.run, runs)}")


def print_insight(report: nas.results.RunReport, insight: nas.results.Insight) -> None:
    lines = [_convergence(report, insight)]
    objectives = {o.name: o for o in report.objectives}
    lines += [_predictor_accuracy(objectives[name], accuracy) for name, accuracy in insight.predictor_accuracy.items()]
    lines += [_importance(name, importance) for name, importance in insight.importance.items()]
    lines.append(_diversity(insight))
    print("\n".join(line for line in lines if line))


def _convergence(report: nas.results.RunReport, insight: nas.results.Insight) -> str:
    curve, timeline = nas.results.convergence(report), insight.timeline
    if curve is None or curve.close_at is None:
        return ""
    close = f"convergence: {curve.close_text}{_after(insight, int((timeline.evaluations < curve.close_at).sum()))}"
    if not timeline.front_positions:
        return close
    last = max(timeline.front_positions.values())
    newest = f"found at evaluation {timeline.evaluations[last]}{_after(insight, last)}"
    return f"{close}; the newest member of the front was {newest}"


def _after(insight: nas.results.Insight, position: int) -> str:
    return f" ({float(insight.timeline.seconds[position]) / 60:.1f} min)"


def _predictor_accuracy(objective: Objective, accuracy: PredictorAccuracy) -> str:
    tau = "" if math.isnan(accuracy.kendall_tau) else f"Kendall tau {accuracy.kendall_tau:.2f}"
    error = prediction_error_text(objective, accuracy.errors)
    shown = ", ".join(filter(None, [tau, error, f"{100 * accuracy.coverage:.0f} % within their 90 % interval"]))
    about = f"{counted(len(accuracy.step), 'network')}, chosen because they were promising"
    return f"predicted against measured {objective.name}: {shown} ({about})"


def _importance(name: str, importance: Importance) -> str:
    if importance.refused:
        return f"important genes for {name}: unknown, {importance.refused}"
    genes = [f"{gene} {lost:.2f}" for gene, lost in importance.by_gene.items() if lost >= _MIN_SHARE][:_GENES]
    return (
        f"important genes for {name}: {', '.join(genes)} (shares of its variance; an additive model of "
        f"{counted(importance.n, 'evaluation')}, R² {importance.r2:.2f} cross-validated)"
    )


def _diversity(insight: nas.results.Insight) -> str:
    diversity = insight.diversity
    if diversity is None:
        return ""
    shared = [f"{gene} {option}" for gene, option in diversity.shared.items() if option is not None]
    more = f" and {len(shared) - 2 * _GENES} more" if len(shared) > 2 * _GENES else ""
    same = f"; all have {', '.join(shared[: 2 * _GENES])}{more}" if shared else ""
    return (
        f"diversity of the front: its members differ in {diversity.mean:.1f} of {diversity.n_genes} genes on average "
        f"({diversity.min_distance} to {diversity.max_distance}; all evaluated: {diversity.evaluated:.1f}){same}"
    )
