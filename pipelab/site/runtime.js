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
/** The newest request, until its turn comes. @type {{ number: number, request: string } | null} */
let waiting = null;
let working = false;

/** Let messages come in that were sent meanwhile. */
const pause = () => new Promise((go) => setTimeout(go));

/** Answer, in parts; what is left of an answer is dropped when a newer request has come. A part without
 * anything to show is only a place to stop at.
 * @param {{ number: number, request: string }} asked */
async function answer({ number, request }) {
  try {
    started ??= start();
    const answers = (await started)(request);
    for (const reply of answers) {
      if (reply) self.postMessage({ number, reply });
      await pause();
      if (waiting) break;
    }
    answers.destroy();
  } catch (error) {
    self.postMessage({ number, failed: String(error) });
  }
}

self.onmessage = async ({ data }) => {
  waiting = data;
  if (working) return;
  working = true;
  while (waiting) {
    const asked = waiting;
    waiting = null;
    await answer(asked);
  }
  working = false;
};
