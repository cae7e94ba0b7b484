// @ts-check
// The worker in which the playground's Python runs: the same schedules and simulator as everywhere.

/** @type {typeof fetch} */
const plainFetch = self.fetch.bind(self);
let loaded = 0;

/** The same answer, whose bytes are counted on their way. @type {typeof fetch} */
self.fetch = async (...what) => {
  const answer = await plainFetch(...what);
  if (!answer.ok || !answer.body) return answer;
  const counted = new TransformStream({
    transform(part, onward) {
      loaded += part.byteLength;
      self.postMessage({ loaded });
      onward.enqueue(part);
    },
  });
  const { headers, status } = answer;
  return new Response(answer.body.pipeThrough(counted), { headers, status });
};

/** Python, and its function that answers. */
async function start() {
  const here = new URL("./", self.location.href);
  const archive = fetch(new URL("pipelab.zip", here)).then((answer) => answer.arrayBuffer());
  const { loadPyodide } = await import(new URL("pyodide/pyodide.mjs", here).href);
  const python = await loadPyodide({ indexURL: new URL("pyodide/", here).href });
  python.unpackArchive(await archive, "zip");
  const { replies } = python.pyimport(self.name); // the module that the page asks for
  self.postMessage({ ready: true });
  return replies;
}

/** @type {Promise<any> | null} */
let started = null;
self.onmessage = async ({ data }) => {
  try {
    started ??= start();
    const answers = (await started)(data);
    for (const reply of answers) self.postMessage({ reply });
    answers.destroy();
    self.postMessage({ done: true });
  } catch (error) {
    self.postMessage({ failed: String(error) });
  }
};
