/**
 * Run the docs' page on browsers, then the tests, in Pyodide under Node, which starts no threads.
 *
 *     node .ci/browser.mjs PYODIDE WHEEL TOOLS SOURCE ARGUMENT...
 *
 * PYODIDE is the folder of its bundle, WHEEL ours, TOOLS a folder of pure wheels that pytest takes, SOURCE a
 * copy of the checkout, and the arguments are pytest's.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [bundle, wheel, tools, source] = process.argv.slice(2, 6).map((path) => resolve(path));
const { loadPyodide } = await import(pathToFileURL(join(bundle, "pyodide.mjs")));
const { start } = await import(pathToFileURL(join(source, "docs", "howto", "browser.mjs")));

/** Load Pyodide with folders of this machine in it. */
async function load(options) {
  const pyodide = await loadPyodide(options);
  const folders = { "/dist": dirname(wheel), "/source": source, "/shared": join(dirname(source), "shared") };
  for (const [inside, root] of Object.entries(folders)) {
    if (!existsSync(root)) continue; // the larger sets of data are not everywhere
    pyodide.FS.mkdir(inside);
    pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root: realpathSync(root) }, inside);
  }
  return pyodide;
}

const pyodide = await start(load, { indexURL: bundle + "/" }, "emfs:/dist/" + basename(wheel));
pyodide.runPython(readFileSync(join(source, "docs", "howto", "browser.py"), "utf8"));

await pyodide.loadPackage(["packaging", "pygments", "scikit-learn"]);
for (const name of readdirSync(tools)) {
  const bytes = Uint8Array.from(readFileSync(join(tools, name))); // a copy: Node's buffers share memory
  pyodide.unpackArchive(bytes.buffer, "wheel", { extractDir: "/lib/python3.12/site-packages" });
}
pyodide.globals.set("arguments", pyodide.toPy(process.argv.slice(6)));
process.exitCode = pyodide.runPython(`
import os, pytest
os.chdir("/source")
int(pytest.main(list(arguments)))
`);
