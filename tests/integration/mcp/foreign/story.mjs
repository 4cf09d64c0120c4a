// The TypeScript SDK's client, over HTTP and over stdio at once; prints as JSON what it saw.
//
// node story.mjs URL COMMAND... FILE     in a folder whose node_modules has the SDK; FILE is served over stdio

import { createRequire } from "node:module";
import { appendFileSync } from "node:fs";

const sdk = createRequire(`${process.cwd()}/`);
const { Client } = sdk("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = sdk("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { StdioClientTransport } = sdk("@modelcontextprotocol/sdk/client/stdio.js");
const { ToolListChangedNotificationSchema } = sdk("@modelcontextprotocol/sdk/types.js");

const [url, command, ...args] = process.argv.slice(2);

const refused = (result) => ({ isError: result.isError === true, text: result.content[0].text });

async function story(transport, file) {
  const client = new Client({ name: "story", version: "1" });
  const isTold = new Promise((told) => client.setNotificationHandler(ToolListChangedNotificationSchema, told));
  await client.connect(transport);
  const call = (name, given = {}, options) =>
    client.callTool({ name, arguments: given }, undefined, { timeout: 30_000, ...options });

  const tools = (await client.listTools()).tools;
  const quotient = await call("divide", { a: 5 });
  const held = await Promise.all(Array.from({ length: 20 }, (_, number) => call("hold", { number })));
  const rows = held.map((result) => result.structuredContent.rows[0]);
  const gaveUp = await call("nap", {}, { timeout: 300 }).then(
    () => false,
    () => true,
  );
  const seen = {
    server: client.getServerVersion(),
    tools: tools.map((tool) => tool.name).sort(),
    schema: tools.find((tool) => tool.name === "divide").inputSchema,
    simple: (await call("test_simple_text")).content,
    quotient: quotient.structuredContent,
    sameAsText: JSON.stringify(JSON.parse(quotient.content[0].text)) === JSON.stringify(quotient.structuredContent),
    numbers: rows.map((row) => row.number),
    backends: new Set(rows.map((row) => row.backend)).size,
    divided: refused(await call("divide", { a: 1, b: 0 })),
    invalid: refused(await call("divide", { a: "one", c: 3 })),
    stranger: refused(await call("devide")),
    gaveUp,
    afterwards: (await call("divide", { a: 1, b: 4 })).structuredContent,
  };
  if (file) {
    appendFileSync(file, "\n  - {name: late, sql: select 1 as one}\n");
    await isTold;
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    seen.added = names.filter((name) => !seen.tools.includes(name));
  }
  await client.close();
  return seen;
}

const [http, stdio] = await Promise.all([
  story(new StreamableHTTPClientTransport(new URL(url))),
  story(new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }), args.at(-1)),
]);
console.log(JSON.stringify({ http, stdio }));
