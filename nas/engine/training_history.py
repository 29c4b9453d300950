"""The epochs of a run's training: what its driver recorded of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas.engine.store.base import RunStore
from nas.engine.store.folder import RunFolder
from nas.errors import StoreError

EPOCH = "epoch"
"""The kind of the event of each epoch, whose detail are the fields of `supernets.training.trainer.Epoch`."""


def training_history(folder: RunFolder, store: RunStore) -> list[Mapping[str, Any]]:
    """The fields of each epoch, the first one first; empty before the first ends, and where the run trains nothing.

    From the run's events, which outlive its checkpoint. Runs of version 0.1, and a driver that was killed between the two
    records, have some epochs in the checkpoint alone.

    Raises:
        StoreError: the checkpoint's index is damaged.
    """
    index = folder.checkpoint / "checkpoint.json"
    try:
        recorded = json.loads(index.read_text())["progress"]["history"] if index.is_file() else []
        epoch_by_number = {int(epoch["epoch"]): epoch for epoch in recorded}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{index}: damaged checkpoint index ({error!r}); remove its folder and resume the run to train again",
            code="checkpoint.damaged",
        ) from None
    epoch_by_number |= {int(event.detail["epoch"]): event.detail for event in store.events() if event.kind == EPOCH}
    return [epoch_by_number[epoch] for epoch in sorted(epoch_by_number)]
