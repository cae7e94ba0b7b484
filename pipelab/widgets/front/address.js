// @ts-check
// What the playground shows, as the end of its address: #s=gpipe&m=16. What is as usual is left out.

/** @typedef {{ s: string, p: string, m: string, v: string, f: string, i: string, w: string, l: string, k: string }} Settings */

/** Schedule, ranks, microbatches, stages per rank; ms of F, I, W and of a message; memory limit.
 * @type {Settings} */
export const USUAL = { s: "1f1b", p: "4", m: "8", v: "2", f: "10", i: "10", w: "10", l: "0", k: "0" };

const TOKEN = /^(0|[1-9]\d{0,5})([FBIW])(0|[1-9]\d{0,5})$/;

/** Rows of tokens as a short text. A stage is left out where it is that of the token before (at
 * first: the rank), a microbatch where it is the next one of its stage and kind. Any text that is no
 * token stands between exclamation marks, as it is. @param {string[][]} rows */
export function packRows(rows) {
  return rows.map((row, rank) => {
    let last = String(rank);
    const next = new Map();
    return row.map((token) => {
      const [, stage, kind, microbatch] = TOKEN.exec(token) ?? [];
      if (!kind) return `!${encodeURIComponent(token).replace(/!/g, "%21")}!`;
      const before = next.get(stage + kind) ?? 0;
      next.set(stage + kind, Number(microbatch) + 1);
      const text = (stage === last ? "" : `.${stage}`) + kind + (Number(microbatch) === before ? "" : microbatch);
      last = stage;
      return text;
    }).join("");
  }).join("-");
}

/** A text without its percent signs; null where they are wrong. @param {string | undefined} text */
function plainText(text) {
  try {
    return text === undefined ? undefined : decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The rows of such a text; null where it is none. @param {string} text */
export function unpackRows(text) {
  const parts = [...text.matchAll(/!([^!]*)!|(?:\.(\d+))?([FBIW])(\d+)?|-/g)];
  if (parts.map(([part]) => part).join("") !== text) return null;
  const others = parts.map(([, other]) => plainText(other));
  if (others.includes(null)) return null;
  /** @type {string[][]} */
  const rows = [[]];
  let [last, next] = ["0", new Map()];
  for (const [place, [part, , stage, kind, microbatch]] of parts.entries()) {
    const other = others[place];
    if (part === "-") {
      [last, next] = [String(rows.length), new Map()];
      rows.push([]);
    } else if (typeof other === "string") rows[rows.length - 1].push(other);
    else {
      last = stage ?? last;
      const number = microbatch ?? next.get(last + kind) ?? 0;
      next.set(last + kind, Number(number) + 1);
      rows[rows.length - 1].push(`${last}${kind}${number}`);
    }
  }
  return rows;
}

/** The end of the address, with its #. @param {Settings} settings
 * @param {string[][] | null} rows the reader's own, or null for the schedule that is named */
export function addressOf(settings, rows) {
  const names = /** @type {(keyof Settings)[]} */ (Object.keys(USUAL));
  const parts = names.filter((name) => settings[name] !== USUAL[name])
    .map((name) => `${name}=${encodeURIComponent(settings[name]).replace(/%2C/g, ",")}`);
  if (rows) parts.push(`t=${encodeURIComponent(packRows(rows))}`);
  return `#${parts.join("&")}`;
}

/** What an address says; null for rows that cannot be read. @param {string} hash
 * @returns {{ settings: Settings, rows: string[][] | null }} */
export function stateOf(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, "").replace(/\+/g, "%2B"));
  const settings = { ...USUAL };
  for (const name of /** @type {(keyof Settings)[]} */ (Object.keys(USUAL))) settings[name] = found.get(name) || USUAL[name];
  const text = found.get("t");
  return { settings, rows: text === null ? null : unpackRows(text) };
}

/** Milliseconds as a request has them: a number, or a list with one for each stage; null where a text
 * is neither. @param {string} text */
export function millisecondsOf(text) {
  const parts = text.split(",").map((part) => part.trim());
  if (!parts.every((part) => /^(\d+\.?\d*|\.\d+)$/.test(part))) return null;
  const numbers = parts.map(Number);
  return numbers.length === 1 ? numbers[0] : numbers;
}

/** The end of the address of a level: its name, and its rows where they are not those of the start.
 * @param {string} level @param {string[][]} rows @param {string[][]} start */
export function levelAddress(level, rows, start) {
  const [own, usual] = [packRows(rows), packRows(start)];
  return `#level=${encodeURIComponent(level)}${own === usual ? "" : `&t=${encodeURIComponent(own)}`}`;
}

/** What an address says; null for what it does not. @param {string} hash */
export function levelOf(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const text = found.get("t");
  return { level: found.get("level"), rows: text === null ? null : unpackRows(text) };
}
