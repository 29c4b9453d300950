"""The command that fine-tunes one network of a run: finetune."""

from __future__ import annotations

from typing import Annotated

import typer

import nas.runs
from nas.cli.app import DEFAULT_RUNS, Address, Index, Inline, Json, Knee, LogTo, RunId, Runs, Select, Store, app, option
from nas.cli.running import check_one_choice, driving, finish, opened_run


@app.command(epilog="Example: nas finetune digits-cnn-1 --knee --epochs 5")
def finetune(
    run: RunId,
    select: Select = None,
    index: Index = None,
    knee: Knee = False,
    epochs: Annotated[int, typer.Option(min=1, max=10**6, help="Number of epochs.")] = 5,
    learning_rate: Annotated[
        float | None, option(help="Peak learning rate; a tenth of the supernet's by default.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    store: Store = None,
    log_to: LogTo = None,
    as_json: Json = False,
) -> None:
    """Fine-tune one network of a run and measure it.

    It is distilled from the largest network. The result is a new run, which `nas export` exports.
    """
    check_one_choice(select, index, knee)
    if learning_rate is not None and not 0 < learning_rate <= 100:
        raise typer.BadParameter(f"--learning-rate: expected a number above 0, at most 100, got {learning_rate:g}")

    opened = opened_run(runs, run)
    # It raises before anything is imported that takes longer.
    nas.runs.finetuning_job(opened, select=select, index=index, epochs=epochs, learning_rate=learning_rate)
    with driving(runs, inline=inline, address=address, store=store, log_to=log_to) as options:
        new_run = nas.finetune(opened, options, select=select, index=index, epochs=epochs, learning_rate=learning_rate)
    return finish(new_run, as_json)
