// @ts-check
// What the ranks of a run in progress do: a recorded trace needs none of it.
/** @import { Doing, Trace } from "./types.js" */
import { doing, kindOf, replicaOf, slots } from "./data.js";
import { say } from "./scale.js";

/** What a rank does in a run that has not ended; `plan`, its prediction, holds what comes next.
 * @param {Trace} trace @param {number} rank @param {Trace | null} plan @returns {Doing} */
export function atWork(trace, rank, plan) {
  const { order, reach } = trace.rows[rank].boxes;
  const latest = Math.max(0, ...trace.rows.map((row) => row.boxes.reach.at(-1) ?? 0));
  if (order.length && reach[reach.length - 1] >= latest) return doing(trace, rank, latest * (1 - 1e-6));
  const next = plan?.rows[rank]?.boxes.order[order.length];
  const words = !plan ? say("waits") : next === undefined ? say("all_computed") : waitFor(plan, next);
  return { event: -1, idle: -1, words };
}

/** Which action of which rank makes what an action needs. @param {Trace} plan @param {number} i */
function waitFor(plan, i) {
  const isForward = kindOf(plan, i).name === "F";
  const makers = isForward ? ["F"] : ["B", "I"];
  const stage = plan.stage[i] + (isForward ? -1 : 1);
  const replica = replicaOf(plan.head, plan.rank[i]);
  for (let k = 0; k < plan.n; k++) {
    const makes = plan.stage[k] === stage && plan.microbatch[k] === plan.microbatch[i] &&
      makers.includes(kindOf(plan, k).name);
    if (makes && plan.rank[k] !== plan.rank[i] && replicaOf(plan.head, plan.rank[k]) === replica)
      return say("waits_for", slots(plan, k));
  }
  return say("about_to_start", slots(plan, i));
}
