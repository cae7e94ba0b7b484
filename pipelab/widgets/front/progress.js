// @ts-check
// What this browser remembers of the levels: stars, and the order that was left. Nothing leaves it.
import { packRows, unpackRows } from "./address.js";

/** The most stars of each level; the order that was left in it, and whether the coach had moved there.
 * @typedef {{ stars: Record<string, number>, rows: Record<string, string>, coached: Record<string, boolean> }} Progress */
const KEY = "pipelab.levels";

/** What is remembered; nothing where there is no storage, or another's. @returns {Progress} */
export function kept() {
  try {
    const { stars, rows, coached } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return { stars: { ...stars }, rows: { ...rows }, coached: { ...coached } };
  } catch {
    return { stars: {}, rows: {}, coached: {} };
  }
}

/** Remember. @param {Progress} progress */
export function keep(progress) {
  try {
    localStorage.setItem(KEY, JSON.stringify(progress));
  } catch { /* a page without storage plays as well */ }
}

/** The most stars of each level. @param {Record<string, number>} one @param {Record<string, number>} other */
export function mostStars(one, other) {
  const found = { ...one };
  for (const [name, stars] of Object.entries(other)) found[name] = Math.max(found[name] ?? 0, Number(stars) || 0);
  return found;
}

/** The order that was left in a level, or null. @param {string} name @returns {string[][] | null} */
export function rowsLeft(name) {
  const text = kept().rows[name];
  return typeof text === "string" ? unpackRows(text) : null;
}

/** Remember the order of a level. @param {string} name @param {string[][]} rows @param {boolean} coached */
export function leaveRows(name, rows, coached) {
  const progress = kept();
  progress.rows[name] = packRows(rows);
  progress.coached[name] = coached;
  keep(progress);
}
