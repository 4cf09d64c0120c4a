"""An MCP server over stdio that starts in milliseconds and misbehaves when it is asked to.

python plain_server.py [deaf] [mute]      deaf: the end of its input does not end it; mute: it answers nothing
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

#: Heeds neither the end of its input nor any signal.
STUBBORN = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(60)"
TOOLS = ("echo", "pid", "child", "exit")
_writing = threading.Lock()


def call(name: str, arguments: dict[str, Any]) -> str:
    match name:
        case "echo":
            time.sleep(arguments.get("delay", 0))
            return str(arguments["text"])
        case "pid":
            return str(os.getpid())
        case "child":
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(
                [sys.executable, "-c", STUBBORN], stdin=nothing, stdout=nothing, start_new_session=arguments["detached"]
            )
            return str(process.pid)
        case "exit":
            os._exit(arguments["code"])
        case _:
            raise ValueError(f"no tool {name!r}")


def answer(request: dict[str, Any]) -> None:
    params, result, error = request.get("params", {}), None, None
    match request["method"]:
        case "initialize":
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "plain", "version": "1"},
            }
        case "ping":
            result = {}
        case "tools/list":
            result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
        case "tools/call":
            try:
                text, is_error = call(params["name"], params.get("arguments") or {}), False
            except Exception as exc:
                text, is_error = str(exc), True
            result = {"content": [{"type": "text", "text": text}], "isError": is_error}
        case method:
            error = {"code": -32601, "message": f"no method {method}"}
    body = {"result": result} if error is None else {"error": error}
    with _writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **body}) + "\n")
        sys.stdout.flush()


def main() -> None:
    if "deaf" in sys.argv:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "mute" not in sys.argv:
            # Calls overlap; what goes before them is answered in order.
            if request["method"] == "tools/call":
                threading.Thread(target=answer, args=(request,), daemon=True).start()
            else:
                answer(request)
    while "deaf" in sys.argv:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
