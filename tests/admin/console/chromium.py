"""A headless Chromium, driven by the DevTools protocol.

Rules kept here:
- It has a profile of its own, and loads nothing by itself: no updates, no extensions.
- Whatever the page complains of is kept: console errors, exceptions, blocked loads, violations of the
  Content-Security-Policy.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

PATIENCE = 10.0
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
COMPLAINTS: dict[str, Callable[[Any], Any]] = {
    "Runtime.exceptionThrown": lambda said: said["exceptionDetails"],
    "Runtime.consoleAPICalled": lambda said: said if said["type"] in ("error", "warning", "assert") else None,
    "Log.entryAdded": lambda said: said["entry"] if said["entry"]["level"] in ("error", "warning") else None,
    "Audits.issueAdded": lambda said: said["issue"],
}


class BrowserError(Exception):
    """The browser refused a command, or a script of the page raised."""


class Page:
    """One tab; `ended` counts the requests that the page itself has ended."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.complaints: list[Any] = []
        self.ended = 0

    async def call(self, method: str, **parameters: Any) -> Any:
        """Send one command and return its result. Raises BrowserError."""
        number = next(self._ids)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(PATIENCE):
            return await self._waiting[number]

    async def follow(self) -> None:
        """Take what the browser sends, until the socket is closed."""
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self._take(message.json())

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            waiting = self._waiting.pop(message["id"])
            if "error" in message:
                waiting.set_exception(BrowserError(message["error"]))
            else:
                waiting.set_result(message["result"])
        elif message["method"] == "Network.loadingFailed":
            self.ended += message["params"].get("canceled", False)
        elif message["method"] in COMPLAINTS:
            complaint = COMPLAINTS[message["method"]](message["params"])
            if complaint is not None:
                self.complaints.append(complaint)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression. Raises BrowserError."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise BrowserError(result["exceptionDetails"])
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until the expression is true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self.evaluate(f"Boolean({expression})"):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {expression}\n{self.complaints}\n{text}") from None

    async def text(self, element_id: str) -> str:
        """Return the text of an element."""
        return str(await self.evaluate(f"document.getElementById('{element_id}').innerText"))

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, as from a keyboard."""
        named: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **named)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def type(self, text: str) -> None:
        """Type text where the focus is."""
        await self.call("Input.insertText", text=text)

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the page, in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    async def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """Write a picture of what the window shows, as PNG."""
        taken = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(taken["data"]))


def program() -> str | None:
    """Return where Chromium is; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """Run a browser with its profile in a folder; yield the address of its DevTools."""
    # Chromium has no sandbox for root.
    flags = (*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}")
    browser = subprocess.Popen(
        [program() or "chromium", *flags, "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        assert browser.stderr is not None
        line = next((line for line in browser.stderr if "DevTools listening on ws://" in line), "")
        assert line, "Chromium has not started"
        yield line.partition("ws://")[2].partition("/")[0]
    finally:
        # Its own session: the renderers end with it.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        if browser.stderr is not None:
            browser.stderr.close()


@asynccontextmanager
async def opened(devtools: str, url: str) -> AsyncIterator[Page]:
    """Open a tab at an address, and close it at the end."""
    async with ClientSession() as session:
        async with session.put(f"http://{devtools}/json/new?about:blank") as response:
            target = await response.json(content_type=None)
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            following = asyncio.create_task(page.follow())
            try:
                for domain in ("Page", "Runtime", "Log", "Audits", "Network"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                await page.until(f"location.href === '{url}' && document.readyState === 'complete'")
                yield page
                await page.call("Page.close")
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
