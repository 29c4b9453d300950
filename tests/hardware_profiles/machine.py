"""A simulated machine whose run times are given, for tests of noise and deaths."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hardware_profiles.errors import WorkerDiedError

CALM = [1.0]
SENTINELS = (b"sentinel", b"sentinel", b"small", b"call")
FIT = {
    "host": "board",
    "allowed_cpus": 2,
    "quota_cpus": None,
    "onnxruntime": "1.32.0",
    "available_providers": ["CPUExecutionProvider"],
}


class Machine:
    """Answers like a worker; implements `Connection`.

    Args:
        floors: by session, then by model (its bytes), the fastest run of each round in milliseconds; the last round's and the
            last session's repeat.
        kill_loading, kill_running: models that kill the worker.
        taken: share of the wall time that others get.
    """

    def __init__(
        self,
        *floors: Mapping[bytes, Sequence[float]],
        kill_loading: Collection[bytes] = (),
        kill_running: Collection[bytes] = (),
        taken: float = 0.0,
    ) -> None:
        self._floors, self._taken = floors, taken
        self._kill_loading, self._kill_running = kill_loading, kill_running
        self._answers: list[dict[str, Any]] = []
        self._models: dict[str, bytes] = {}
        self._round = 0
        self.sessions: list[list[bytes]] = []
        self.rounds: list[list[bytes]] = []

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        answer: dict[str, Any] = {"environment": FIT if command["do"] == "start" else {}, "event": "ready"}
        if command["do"] == "acquire":
            self._models, self._round, answer["event"] = {}, 0, "acquired"
            self.sessions.append([])
        elif command["do"] == "load":
            model = payloads[0] if int(command["id"]) > 3 else SENTINELS[int(command["id"])]
            self._models[command["id"]] = model
            if model not in SENTINELS:
                self.sessions[-1].append(model)
            if model in self._kill_loading:
                return
            answer |= {
                "event": "loaded",
                "warm_ms": 1.0,
                "session_ms": [1.0],
                "peak_mib": 1.0,
                "providers": ["CPU"],
                "scattered": 0.0,
            }
        elif command["do"] == "round":
            floors = self._floors[min(len(self.sessions), len(self._floors)) - 1]
            answer["entries"] = {}
            if any(self._models[id] in self._kill_running for id, _ in command["order"]):
                return
            for id, n in command["order"]:
                own = floors.get(self._models[id], CALM)
                times = [own[min(self._round, len(own) - 1)]] * n
                walls = times[:1] + [time / (1 - self._taken) for time in times[1:]]
                answer["entries"][id] = {"wall_ms": walls, "cpu_ms": times, "switches": [0] * n}
            self._round += 1
            self.rounds.append([self._models[id] for id, _ in command["order"]])
        self._answers.append(answer)

    def receive(self, *, seconds: float) -> dict[str, Any]:
        if not self._answers:
            raise WorkerDiedError("the measuring process died (SIGSEGV)")
        return self._answers.pop(0)

    def close(self) -> None:
        pass
