"""The client of the Python SDK 1.x, over HTTP and over stdio at once; prints as JSON what it saw.

python story_mcp1.py URL COMMAND...
"""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


def refused(result):
    return {"isError": result.isError, "text": result.content[0].text}


async def story(transport):
    async with transport as (read, write, *_), ClientSession(read, write) as session:
        agreed = await session.initialize()
        tools = (await session.list_tools()).tools
        quotient = await session.call_tool("divide", {"a": 5})
        held = await asyncio.gather(*(session.call_tool("hold", {"number": number}) for number in range(20)))
        rows = [result.structuredContent["rows"][0] for result in held]
        return {
            "protocol": agreed.protocolVersion,
            "server": {"name": agreed.serverInfo.name, "version": agreed.serverInfo.version},
            "tools": sorted(tool.name for tool in tools),
            "schema": next(tool.inputSchema for tool in tools if tool.name == "divide"),
            "simple": [
                block.model_dump(exclude_none=True) for block in (await session.call_tool("test_simple_text")).content
            ],
            "quotient": quotient.structuredContent,
            "sameAsText": json.loads(quotient.content[0].text) == quotient.structuredContent,
            "numbers": [row["number"] for row in rows],
            "backends": len({row["backend"] for row in rows}),
            "divided": refused(await session.call_tool("divide", {"a": 1, "b": 0})),
            "invalid": refused(await session.call_tool("divide", {"a": "one", "c": 3})),
            "stranger": refused(await session.call_tool("devide")),
            "afterwards": (await session.call_tool("divide", {"a": 1, "b": 4})).structuredContent,
        }


@asynccontextmanager
async def stdio(command):
    async with stdio_client(StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))) as pair:
        yield pair


async def main():
    url, *command = sys.argv[1:]
    over_http, over_stdio = await asyncio.gather(story(streamable_http_client(url)), story(stdio(command)))
    json.dump({"http": over_http, "stdio": over_stdio}, sys.stdout)


asyncio.run(main())
