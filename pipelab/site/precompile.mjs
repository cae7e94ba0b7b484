// @ts-check
// Run by node where the playground is built: its folder's Python as bytecode, made by that very Python.
//   node precompile.mjs FOLDER BYTECODE.PY
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, compiler] = process.argv.slice(2);
const runtime = `${folder}/pyodide`;
const { loadPyodide } = await import(pathToFileURL(`${runtime}/pyodide.mjs`).href);
const python = await loadPyodide({ indexURL: `${runtime}/` });
const own = readFileSync(`${folder}/pipelab.zip`);
python.unpackArchive(new Uint8Array(own).buffer, "zip");
for (const answers of ["playground_answers", "level_answers"])
  python.pyimport(`pipelab.widgets.${answers}`); // with what Pyodide itself imports: all that is compiled
python.runPython(readFileSync(compiler, "utf-8"));

/** @param {string} path @param {string} wanted in Python */
function compile(path, wanted) {
  python.FS.writeFile("/old.zip", readFileSync(path));
  python.runPython(`write_compiled("/old.zip", "/new.zip", ${wanted})`);
  writeFileSync(path, python.FS.readFile("/new.zip"));
}
compile(`${runtime}/python_stdlib.zip`, "__import__('sys').modules");
compile(`${folder}/pipelab.zip`, "None");
