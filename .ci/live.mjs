/**
 * Run all cells of the docs' live notebook in headless Chromium, and print what they print.
 *
 *     node .ci/live.mjs CHROMIUM SITE
 *
 * CHROMIUM is the program, SITE the folder of the built pages, with Pyodide in it.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [chromium, site] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

const server = createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://site").pathname);
  response.setHeader("Content-Type", TYPES[extname(path)] ?? "application/octet-stream");
  try {
    let body = readFileSync(join(site, path));
    if (path === "/lite/jupyter-lite.json") {
      const settings = JSON.parse(body);
      settings["jupyter-config-data"].exposeAppInBrowser = true; // so that its commands can be called
      body = JSON.stringify(settings);
    }
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

// the protocol of its developer tools, over two pipes: messages end with a zero byte
const options = ["--headless", "--no-sandbox", "--remote-debugging-pipe", "about:blank"];
const browser = spawn(chromium, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const waiting = new Map();
let received = "";
browser.stdio[4].setEncoding("utf8").on("data", (text) => {
  const messages = (received + text).split("\0");
  received = messages.pop();
  for (const { id, result } of messages.map(JSON.parse)) waiting.get(id)?.(result);
});
function send(method, params = {}, sessionId = undefined) {
  const id = waiting.size + 1;
  browser.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
  return new Promise((resolve) => waiting.set(id, resolve));
}

const url = `http://127.0.0.1:${server.address().port}/lite/notebooks/index.html?path=howto/live.ipynb`;
const { targetId } = await send("Target.createTarget", { url });
const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
async function evaluate(expression) {
  const { result } = await send("Runtime.evaluate", { expression, returnByValue: true }, sessionId);
  return result.value;
}

let printed, done;
for (let i = 0, asked = false; i < 300 && !done; i++) {
  await sleep(1000);
  if (!asked && (await evaluate(`!!(window.jupyterapp && document.querySelector(".jp-CodeCell"))`))) {
    asked = true;
    await sleep(5000); // its kernel is named by then
    await evaluate(`void jupyterapp.commands.execute("notebook:run-all-cells")`);
  }
  done = await evaluate(`!!document.querySelector(".jp-OutputArea-output img")`); // the picture comes last
  printed = await evaluate(
    `[...document.querySelectorAll(".jp-OutputArea-output")].map((e) => e.innerText).join("\\n")`,
  );
}
console.log(printed);
if (!done) console.error("the live notebook did not come to its picture");
browser.kill();
server.close();
process.exitCode = done ? 0 : 1;
