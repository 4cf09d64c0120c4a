"""`ToolServer`: the MCP server over a toolset. What it lists, how it calls, and whom it tells that the list changed.

Clients of both generations of the protocol are served: those that shake hands (2025-11-25 and before), and those
that say everything in each request (2026-07-28). An exception that left a handler would be told to the former
word for word, so none does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Protocol

from mcp.server import NotificationOptions, Server, ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    NotificationParams,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as ListedTool

from aiopool.telling import explain
from aiopool.toolserver.current import Current
from aiopool.toolserver.tool import Result, Tool

logger = logging.getLogger("aiopool")

#: Calls under way at once, of all clients; whoever comes then is refused. What a tool's pool takes is its own limit.
MAX_CALLS = 1000
#: Clients that are told of changes at once; those beyond find out when they list the tools again.
MAX_LISTENERS = 10_000

Context = ServerRequestContext[Any, Any]


class Observer(Protocol):
    """Is told of each call that ended: `outcome` is `ok`, `error` or `cancelled`."""

    def __call__(self, tool: str, outcome: str, seconds: float) -> None: ...


class ToolServer:
    """`mcp` is the server itself, for whatever transport."""

    def __init__(self, current: Current, observer: Observer | None = None) -> None:
        self._current = current
        self._observe = observer
        self._under_way = 0
        self.is_ending = False
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus, max_subscriptions=MAX_LISTENERS)
        #: Of the clients that shook hands: the identities of what they said of themselves.
        self._listening: set[int] = set()
        toolset = current.toolset
        self.mcp: Server[Any] = _Server(
            toolset.name,
            version=toolset.version,
            description=toolset.description,
            get_tool_input_schema=self._schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_subscriptions_listen=self._listen,
        )
        self.mcp.add_notification_handler("notifications/initialized", NotificationParams, self._tell_of_changes)

    async def reload(self) -> None:
        """Serve what the file says now, and tell the clients if that changed the list."""
        before = self._listed()
        if await self._current.reload() and self._listed() != before:
            await self._bus.publish(ToolsListChanged())

    def refuse_calls(self) -> None:
        """Answer calls that come from now on with a refusal."""
        self.is_ending = True

    async def end_calls(self, grace: float) -> None:
        """Refuse new calls, and let those under way end for `grace` seconds; then they are cancelled."""
        self.refuse_calls()
        await self._current.wait_until_idle(grace)
        self._current.cancel_calls()

    def cancel_calls(self) -> None:
        """Let the calls that are left end with a failure."""
        self._current.cancel_calls()

    def end_streams(self) -> None:
        """Let the streams of those who listen for changes end."""
        self._listen.close()

    def _listed(self) -> list[ListedTool]:
        return [_as_listed(tool) for tool in self._current.toolset.tools.values()]

    def _schema(self, name: str) -> dict[str, Any] | None:
        tool = self._current.toolset.tools.get(name)
        return tool.parameters.schema if tool is not None else None

    async def _list_tools(self, ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=self._listed())

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        if self.is_ending:
            return _refusal("the server is shutting down; retry later")
        if self._under_way >= MAX_CALLS:
            return _refusal(f"the server is busy: {MAX_CALLS} calls are under way; retry later")
        known = params.name in self._current.toolset.tools
        began, outcome = time.perf_counter(), "error"
        self._under_way += 1
        try:
            answer = _as_answer(await self._current.call(params.name, params.arguments or {}))
            outcome = "error" if answer.is_error else "ok"
            return answer
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as exc:
            return _refusal(explain(exc))
        finally:
            self._under_way -= 1
            if self._observe is not None and known:  # others' names would be labels without number
                self._observe(params.name, outcome, time.perf_counter() - began)

    async def _tell_of_changes(self, ctx: Context, params: NotificationParams) -> None:
        """Runs from the handshake until the connection ends, which cancels it.

        Only such a handler knows both: the way to its client, and when that is gone. One is enough for a client.
        """
        client = ctx.session.client_params
        if client is None or id(client) in self._listening or len(self._listening) >= MAX_LISTENERS:
            return
        changed = asyncio.Event()
        self._listening.add(id(client))
        unsubscribe = self._bus.subscribe(lambda _: changed.set())
        try:
            while await changed.wait():
                changed.clear()
                await ctx.session.send_tool_list_changed()
        finally:
            unsubscribe()
            self._listening.discard(id(client))


class _Server(Server[Any]):
    """Tells those who shake hands that it tells of changes, on every transport."""

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, *args, **kwargs)


def _as_listed(tool: Tool) -> ListedTool:
    return ListedTool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.parameters.schema,
        annotations=ToolAnnotations(read_only_hint=tool.plan.is_read_only),
    )


def _refusal(text: str) -> CallToolResult:
    return _as_answer(Result(text, is_error=True))


def _as_answer(result: Result) -> CallToolResult:
    """A result in the protocol's form. What JSON and UTF-8 cannot hold must not break the connection of everybody."""
    structured = dict(result.structured) if result.structured is not None else None
    try:
        if structured is not None:
            json.dumps(structured, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        logger.warning("a result's structured content is no JSON (%s) and is left out", type(exc).__name__)
        structured = None
    text = result.text.encode("utf-8", "replace").decode()
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=structured, is_error=result.is_error
    )
