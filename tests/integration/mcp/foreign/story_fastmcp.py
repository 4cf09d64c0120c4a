"""FastMCP's client, over HTTP and over stdio at once; prints as JSON what it saw.

python story_fastmcp.py URL COMMAND...
"""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport


async def story(transport):
    async with Client(transport) as client:

        async def call(name, arguments=None, **options):
            return await client.call_tool(name, arguments or {}, raise_on_error=False, **options)

        async def refused(name, arguments=None):
            result = await call(name, arguments)
            return {"isError": result.is_error, "text": result.content[0].text}

        tools = await client.list_tools()
        quotient = await call("divide", {"a": 5})
        held = await asyncio.gather(*(call("hold", {"number": number}) for number in range(20)))
        rows = [result.structured_content["rows"][0] for result in held]
        try:
            await call("nap", timeout=0.3)
            gave_up = False
        except Exception:
            gave_up = True
        return {
            "protocol": client.session.protocol_version,
            "tools": sorted(tool.name for tool in tools),
            "schema": next(tool.input_schema for tool in tools if tool.name == "divide"),
            "simple": [
                block.model_dump(exclude_none=True, by_alias=True) for block in (await call("test_simple_text")).content
            ],
            "quotient": quotient.structured_content,
            "sameAsText": json.loads(quotient.content[0].text) == quotient.structured_content,
            "numbers": [row["number"] for row in rows],
            "backends": len({row["backend"] for row in rows}),
            "divided": await refused("divide", {"a": 1, "b": 0}),
            "invalid": await refused("divide", {"a": "one", "c": 3}),
            "stranger": await refused("devide"),
            "gaveUp": gave_up,
            "afterwards": (await call("divide", {"a": 1, "b": 4})).structured_content,
        }


async def main():
    url, command, *args = sys.argv[1:]
    over_stdio = StdioTransport(command, args, env=dict(os.environ), keep_alive=False)
    found = await asyncio.gather(story(StreamableHttpTransport(url)), story(over_stdio))
    json.dump(dict(zip(("http", "stdio"), found, strict=True)), sys.stdout)


asyncio.run(main())
