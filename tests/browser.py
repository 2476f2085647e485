"""A headless Chromium that tests can drive: open pages, run scripts in them, press keys."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]
PATIENCE = 120  # seconds for anything


class Browser:
    """One window, over the DevTools protocol.

    Args:
        profile: a new folder for the browser's files.

    Attributes:
        errors: what went wrong in the pages' scripts since the last `open`.
    """

    def __init__(self, profile: Path):
        # Without a proxy: the site must not need the network, and must not wait for one.
        environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        line = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(line, env=environment, **quiet)
        self.errors, self.number, self.seen = [], 0, []
        try:
            port, address = _waited(profile / "DevToolsActivePort").split()
            origin = f"ws://127.0.0.1:{port}"
            self.socket = websocket.create_connection(
                f"{origin}{address}", timeout=PATIENCE, http_no_proxy=["127.0.0.1"]
            )
            self.session = None
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "DOM"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def call(self, method: str, **parameters) -> dict:
        """One command of the protocol; returns its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self) -> dict:
        answer = json.loads(self.socket.recv())
        if answer.get("method") == "Runtime.exceptionThrown":
            details = answer["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        if answer.get("method") == "Runtime.consoleAPICalled":
            words = [str(a.get("value", a.get("description"))) for a in answer["params"]["args"]]
            self.errors += [word for word in words if "Error" in word]
        self.seen.append(answer.get("method"))
        return answer

    def open(self, page: Path | str, width: int = 1366, height: int = 900) -> None:
        """Open a file in a window of this size, and wait until it has loaded."""
        self.errors.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.seen.clear()
        self.call("Page.navigate", url=Path(page).resolve().as_uri())
        while "Page.loadEventFired" not in self.seen:
            self._receive()

    def run(self, script: str):
        """The value of an expression in the page; a promise is waited for."""
        options = {"returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}; errors: {self.errors}"
            time.sleep(0.1)

    def press(self, key: str) -> None:
        """One key, by its name: "ArrowLeft", "+", "Enter"."""
        parameters = {"key": key, **({"text": key} if len(key) == 1 else {})}
        if key == "Tab":
            parameters["windowsVirtualKeyCode"] = 9
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **parameters)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an input, as its reader would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def theme(self, name: str) -> None:
        """The theme of the open page: "light" or "dark"."""
        self.run(f'document.documentElement.dataset.theme = "{name}"; 0')

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as a PNG file."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


def _waited(path: Path) -> str:
    end = time.monotonic() + PATIENCE
    while not path.is_file() or "\n" not in path.read_text():
        assert time.monotonic() < end, "chromium did not start"
        time.sleep(0.05)
    return path.read_text()
