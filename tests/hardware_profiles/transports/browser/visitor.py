"""A browser made of an HTTP client: it sends what tests say."""

from __future__ import annotations

import json
from typing import Any

import httpx

DEVICE = {
    "key": "0123456789abcdef0123456789abcdef",
    "agent": "Mozilla/5.0 Chrome/156.0.0.0 Safari/537.36",
    "platform": "Android Pixel 9",
    "architecture": "arm-64",
    "cores": 8,
    "memory_gib": 8,
    "isolated": True,
    "webgpu": False,
}


class Visitor:
    """Joins a server and answers commands.

    Args:
        address: Address of the server.
        device: What the browser says of itself.
    """

    def __init__(self, address: str, **device: Any) -> None:
        self.client = httpx.Client(base_url=address, timeout=30, headers={"Connection": "close"})
        self.device, self.token, self.visit = DEVICE | device, "", 0

    def post(self, path: str, value: Any, **headers: str) -> httpx.Response:
        """The response to any value, or to bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.client.post(
            path, content=body, headers={"Authorization": f"Bearer {self.token or None}", **headers}
        )

    def join(self, **proof: str) -> httpx.Response:
        """The response to joining with a code or a token; a good one begins a visit."""
        response = self.post("/join", {"device": self.device, **proof})
        if response.status_code == 200:
            self.token, self.visit = response.json()["token"], response.json()["visit"]
        return response

    def command(self) -> dict[str, Any]:
        """The head of the next command, with what follows it as ``content``."""
        response = self.post("/command", {"visit": self.visit})
        head, _, content = response.content.partition(b"\n")
        return {**json.loads(head), "content": content}

    def answer(self, command: int, answer: Any) -> httpx.Response:
        """The response to an answer."""
        return self.post("/answer", {"visit": self.visit, "command": command, "answer": answer})

    def beat(self, *, visible: bool = True, left: bool = False) -> httpx.Response:
        """The response to a sign of life."""
        return self.post("/beat", {"visit": self.visit, "visible": visible, "left": left})
