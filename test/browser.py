"""A headless Chromium, told what to do over its own protocol: JSON, a null byte behind each message, on two pipes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any


class Browser:
    """Used as a context; raises RuntimeError for what the browser refuses."""

    def __init__(self, program: str, profile: Path) -> None:
        command_out, self._to = os.pipe()
        self._from, answer_in = os.pipe()

        def connect() -> None:  # the browser reads from 3 and writes to 4
            reading, writing = os.dup(command_out), os.dup(answer_in)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900"]
        self._process = subprocess.Popen(
            [program, *options, f"--user-data-dir={profile / 'chromium'}", "--remote-debugging-pipe"],
            preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(command_out)
        os.close(answer_in)
        self._rest, self._number, self._session = b"", 0, ""

    def __enter__(self) -> Browser:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)

    def open(self, url: str) -> None:
        """Returns when the page is there."""
        self._call("Page.navigate", url=url)
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']['text']}")
        return result["result"].get("value")

    def click(self, selector: str) -> None:
        """Scrolls to an element and presses the mouse in its middle."""
        where = f"document.querySelector({json.dumps(selector)})"
        box = f"(({where}).scrollIntoView({{block: 'center'}}), ({where}).getBoundingClientRect().toJSON())"
        found = self.evaluate(box)
        place = {"x": found["x"] + found["width"] / 2, "y": found["y"] + found["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._from, 1 << 16)
            if not data:
                raise RuntimeError("the browser has ended")
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message
