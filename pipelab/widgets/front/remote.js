// @ts-check
// A model whose other half is Python in a worker of this page: no kernel, no server.
/** @import { Model } from "./types.js" */

/** @typedef {Record<string, any>} Values */

/** A model of these values; `saved` is called with the names that were set when changes are saved.
 * @param {Values} values @param {(names: string[]) => void} saved
 * @returns {Model & { take: (found: Values) => void }} */
export function localModel(values, saved) {
  /** @type {Map<string, Set<(...values: any[]) => void>>} */
  const listeners = new Map();
  /** @type {Set<string>} */
  const changed = new Set();
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      changed.add(name);
    },
    save_changes() {
      const names = [...changed];
      changed.clear();
      saved(names);
    },
    on: (event, act) => void (listeners.get(event) ?? listeners.set(event, new Set()).get(event))?.add(act),
    off: (event, act) => void listeners.get(event)?.delete(act),
    send: () => {},
    /** Take what Python found, and call who listens. */
    take(found) {
      Object.assign(values, found);
      for (const name of Object.keys(found)) for (const act of listeners.get(`change:${name}`) ?? []) act();
    },
  };
}

/** Bytes that came as text. @param {Values} found */
export function withBytes(found) {
  for (const [name, value] of Object.entries(found)) if (value?.base64 !== undefined) {
    const text = atob(value.base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i); // a call for each would take as long as a picture
    found[name] = new DataView(bytes.buffer);
  }
  return found;
}

/** Python in a worker, loaded with the first request; of several requests it answers the newest.
 * @param {string} answers the module whose ``replies`` it calls
 * @param {{ answered: (found: Values, isFirst: boolean) => void, loaded: (bytes: number) => void,
 *   ready: () => void, failed: (words: string) => void }} act */
export function python(answers, act) {
  /** @type {Worker | null} */
  let worker = null;
  let [asked, heard] = [0, 0];
  const hear = (/** @type {MessageEvent} */ { data }) => {
    if (data.loaded !== undefined) act.loaded(data.loaded);
    else if (data.ready) act.ready();
    else if (data.number !== asked) return; // of an older request
    else if (data.failed) act.failed(data.failed);
    else {
      const isFirst = heard !== asked;
      heard = asked;
      act.answered(withBytes(JSON.parse(data.reply)), isFirst);
    }
  };
  return (/** @type {object} */ request) => {
    if (!worker) {
      worker = new Worker("runtime.js", { type: "module", name: answers });
      worker.onmessage = hear;
      worker.onerror = () => act.failed("Python could not be loaded: open this page from a web server.");
    }
    worker.postMessage({ number: ++asked, request: JSON.stringify(request) });
  };
}
