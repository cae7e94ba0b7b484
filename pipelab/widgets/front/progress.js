// @ts-check
// What this browser remembers of the levels: stars, and the order that was left. Nothing leaves it.
import { packRows, unpackRows } from "./address.js";

/** @typedef {{ stars: Record<string, number>, rows: Record<string, string> }} Progress */
const KEY = "pipelab.levels";

/** What is remembered; nothing where there is no storage, or another's. @returns {Progress} */
export function kept() {
  try {
    const { stars, rows } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return { stars: { ...stars }, rows: { ...rows } };
  } catch {
    return { stars: {}, rows: {} };
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

/** Remember the order of a level. @param {string} name @param {string[][]} rows */
export function leaveRows(name, rows) {
  const progress = kept();
  progress.rows[name] = packRows(rows);
  keep(progress);
}
