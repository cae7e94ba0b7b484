// @ts-check
// Names for elements that a label belongs to.

let count = 0;
// Each widget loads its own copy of this file, so a count alone would repeat ids on a page.
const prefix = `pl-${Math.random().toString(36).slice(2)}`;
export const newId = () => `${prefix}-${++count}`;
