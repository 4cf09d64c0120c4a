"""A client for `mcp_handlers.py`: starts it as a process and calls its tools over stdio.

python examples/mcp_client.py
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

SERVER = Path(__file__).with_name("mcp_handlers.py")
KEY = "aiopool-example:greeting"


def text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


async def main() -> None:
    process = StdioServerParameters(command=sys.executable, args=[str(SERVER)], env=dict(os.environ))
    async with Client(process) as client:

        async def call(tool: str, **arguments: Any) -> CallToolResult:
            return await client.call_tool(tool, arguments)

        for tool in (await client.list_tools()).tools:
            print(f"{tool.name}({', '.join(tool.input_schema['properties'])})")

        print((await call("query_database_tool", query="select 42 as answer")).structured_content)
        await call("cache_tool", action="set", key=KEY, value="hello")
        print((await call("pooled_query", pool_name="redis", key=KEY)).structured_content)
        print(text(await call("cache_tool", action="delete", key=KEY)))
        answer = (await call("call_api_tool", endpoint="/echo", data={"id": 1})).structured_content
        print(answer["answer"]["method"] if answer else None)

        # What a model reads when it was wrong.
        print(text(await call("query_database_tool", query="select nam from pg_tables")))
        print(text(await call("query_database_tool", query="create table mine (id int)")))
        print(text(await call("call_api_tool", endpoint="/status/503", data={})))

        results = await asyncio.gather(*(call("query_database_tool", query=f"select {n} as n") for n in range(200)))
        print(f"{sum(not result.is_error for result in results)} of {len(results)} calls at once succeeded")


if __name__ == "__main__":
    asyncio.run(main())
