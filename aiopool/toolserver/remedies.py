"""Keys that stand in files for other servers and mean nothing here: what to write instead."""

from __future__ import annotations

_POOL_BOUND = "set `max_size` of the tool's pool, which bounds how many calls run at once"
_RETRY = "a pool opens lost connections again by itself, and no call is run twice; remove it"
_RIGHTS = "what a tool may do is what the user of its pool may do, so give it few rights; remove it"

FILE_REMEDIES = {
    "env": "write `${VAR}` where the value is needed, or `environment:` on a tool with a `script:`",
    "environment": "write `environment:` on the tools that need it",
    "transport": "write `--transport` on the command line",
    "mcp": "write `server:`",
    "logging": "the log goes to stderr; remove it",
    "concurrency": _POOL_BOUND,
    "circuit_breakers": "a pool refuses callers at once while its server is away (`unavailable_after`); remove it",
    "timeouts": "write `timeout:` on each tool, and `acquire_timeout:` on the pool",
    "retry": _RETRY,
    "cache": "results are not cached; remove it, or keep them in Redis with a tool of your own",
    "rate_limit": "calls are not counted by the minute; set `max_size` and `max_waiting` of the pool",
    "batching": "write `batching: true` on a pool of type redis",
    "auth": "write `token:` under `server:`",
    "audit": "each call is counted under `/metrics`; remove it",
    "compression": "results are sent as they are; remove it",
    "governance": _RIGHTS,
    "pagination": "`max_rows` bounds what a tool with `sql:` returns; remove it",
    "rbac": _RIGHTS,
    "roles": _RIGHTS,
    "sandbox": "scripts get a bare environment, a timeout and bounds for their output; remove it",
    "streaming": "results are sent as a whole; remove it",
    "templates": "write YAML anchors under a key that begins with `x-`",
}

_ANYWHERE = (
    *("audit", "batching", "cache", "compression", "concurrency", "governance", "logging", "pagination", "rate_limit"),
    *("retry", "sandbox", "streaming"),
)
TOOL_REMEDIES = {key: FILE_REMEDIES[key] for key in _ANYWHERE} | {
    "inputSchema": "write the parameters as a list under `parameters:`",
    "input_schema": "write the parameters as a list under `parameters:`",
    "env": "write `environment:`",
    "circuit_breaker": FILE_REMEDIES["circuit_breakers"],
    "role": _RIGHTS,
    "validation": "write `enum`, `pattern`, `min` or `max` on the parameters themselves",
    "max_retries": _RETRY,
    "shell": "write it below `script:`, as `script: {shell: …}`",
    "command": "write it below `script:`, as `script: {command: …, args: […]}`",
    "args": "write it below `script:`, as `script: {command: …, args: […]}`",
    "working_dir": "write it below `script:`",
    "url": "write it below `http:`",
    "query": "write it as `sql:`, or below `http:`",
}
