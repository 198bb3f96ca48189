// Tables of counts that several pages have.
import { el, number, table, words } from "./page.js";
import { LIMITS } from "./reasons.js";

/** Each limit, what was found, and whether it holds. */
export function limitTable(results) {
  return table("The limits before the import, and how close they are", ["Limit", "#Allowed", "#Found", "Result", ""],
    results.map((each) => [
      LIMITS[each.limit] ?? words(each.limit),
      each.allowed,
      number(each.found),
      el("span", { class: each.holds ? "good" : "bad" }, each.found === null ? "not compared" : each.holds ? "holds" : "does not hold"),
      el("span", { class: "muted" }, each.sentence),
    ]));
}

/** Counts of a campaign; a mapping of reasons is written out. */
export function campaignRows(launched) {
  return Object.entries(launched).map(([name, value]) => [words(name), written(value)]);
}

function written(value) {
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([why, count]) => `${words(why)}: ${number(count)}`).join(", ") || "0";
  }
  return typeof value === "number" ? number(value) : String(value ?? "");
}
