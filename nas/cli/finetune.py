"""The command that trains one network of a run further: finetune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import DEFAULT_RUNS, Address, Index, Inline, Json, Knee, LogTo, RunId, Runs, Select, Store, app
from nas.cli.output import print_json, print_report, print_table
from nas.cli.running import check_one_choice, driving, folder

if TYPE_CHECKING:
    from nas.gain import Gain


@app.command()
def finetune(
    run: RunId,
    select: Select = None,
    index: Index = None,
    knee: Knee = False,
    epochs: Annotated[int, typer.Option(help="Passes over the training part.")] = 5,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="The learning rate's peak; a tenth of the supernet's by default.", show_default=False),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    store: Store = None,
    log_to: LogTo = None,
    as_json: Json = False,
) -> None:
    """Train one network of a run further, taught by the largest one, and measure it again: a run of its own, to export."""
    from nas.driver import search as search_job
    from nas.export.report_json import search_json
    from nas.finetune import finetuning_job
    from nas.gain import gain_of
    from nas.reader import Run

    check_one_choice(select, index, knee)
    opened = Run.open(folder(runs), run)
    job = finetuning_job(opened, select=select, index=index, epochs=epochs, learning_rate=learning_rate)
    with driving(runs, inline=inline, address=address, store=store, log_to=log_to) as how:
        made = search_job(job, how, source=f"run {run}")
    gain = gain_of(made)
    if as_json:
        return print_json({**search_json(made.report), "gain": gain.to_json()})
    if opened.kind == "search":
        print_report(opened.report, live=False)
        print()
    print_gain(made.id, gain)
    return print(f"next: nas export {made.id} -o model.onnx")


def print_gain(run: str, gain: Gain) -> None:
    """A network's accuracies before and after, and whether they can be told apart."""
    print(f"{run}: network {gain.network} of {gain.run}, trained further")
    rows = []
    for part, change in gain.parts.items():
        compared = change.comparison
        verdict = "" if compared.distinguishable else "a tie: "
        rows.append(
            [
                f"{part} accuracy", f"{change.before:.2%}", f"{change.after:.2%}",
                f"{verdict}{100 * compared.difference:+.2f} ± {100 * compared.threshold:.2f} points ({compared.method})",
            ]
        )  # fmt: skip
    print_table(["", "before", "after", "gain, and two standard errors of it"], rows)
    if gain.improved:
        print(f"kept: the weights after epoch {gain.best_epoch} of {gain.epochs}, the best on the validation part")
    else:
        print(f"none of {gain.epochs} epochs made it better on the validation part: its weights are what they were")
