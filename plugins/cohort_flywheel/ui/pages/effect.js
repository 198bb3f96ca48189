// What launches have changed, as the DAG engagement has measured it.
import { date, el, instant, number, percent, table } from "./page.js";

const AGAINST = {
  launch_holdout: "held out of this launch: the effect of this e-mail",
  global_holdout: "held out of all campaigns: the effect of being mailed at all",
};
const OUTCOMES = {
  further: "further beyond the threshold",
  left: "left the cohort",
  change: "mean change of the score",
};

const muted = (text) => el("p", { class: "muted" }, text);
const plus = (value) => (value > 0 ? "+" : "");

/** A difference: of shares in points, of means as it is. */
function difference(outcome, value) {
  if (value === null || value === undefined) return "";
  return outcome === "change" ? plus(value) + number(Number(value.toPrecision(3))) : `${plus(value)}${(100 * value).toFixed(1)} points`;
}

const interval = (outcome, found) => (found.low === null ? "" : `${difference(outcome, found.low)} to ${difference(outcome, found.high)}`);

/** The verdict: where no difference was seen, with the one that groups of this size could show. */
function verdict(outcome, found) {
  const open = found.detectable !== null && ["not seen", "too few to tell"].includes(found.verdict);
  const could = open ? `; ${difference(outcome, found.detectable).replace("+", "")} could have been seen` : "";
  return el("div", { class: "sentence" }, found.sentence.includes("cannot happen") ? found.sentence : `${found.verdict}${could}`);
}

function group(outcome, value, players) {
  if (outcome === "change") return value === null ? "" : difference(outcome, value);
  return players ? `${percent(value, players)} (${number(value)})` : number(value);
}

function comparison(holdout, found) {
  const rows = Object.keys(OUTCOMES).map((outcome) => {
    const each = found[outcome];
    return [OUTCOMES[outcome], group(outcome, each.mailed, found.mailed), group(outcome, each.held_out, found.held_out),
      difference(outcome, each.difference), interval(outcome, each), verdict(outcome, each)];
  });
  const { clipped_at: floor } = found.change;
  return [
    table(`${number(found.mailed)} players mailed, against ${number(found.held_out)} ${AGAINST[holdout]}`,
      ["Outcome", "#Mailed", "#Held out", "#Difference", "#95 % interval", "Verdict"], rows),
    muted(`Scores count as ${floor === null ? "their floor" : `the floor ${number(floor)}`} where they are beyond it.${found.erased ? ` ${number(found.erased)} players were erased since, and are in neither group.` : ""}`),
  ];
}

/** The effect of a launch, or when it is due. */
export function effectOf(effect) {
  const head = el("h2", {}, "Effect");
  if (!effect) return [head, muted("Not measured: the launch held out no players, or no report of the DAG engagement has it yet.")];
  const days = `${number(effect.effect_days)} days after the launch`;
  if (effect.status === "waiting") return [head, el("p", {}, `Due on ${date(effect.due)}, ${days}.`)];
  if (effect.status !== "measured") {
    return [head, el("p", { class: "warn" }, `Due since ${date(effect.due)}, and not measured: there are no two final snapshots of the cohort that can be compared.`)];
  }
  return [
    head,
    muted(`The scores of ${instant(effect.measured_at)}, ${days} at the earliest, compared with those of the launch. Everybody of both lists counts, whatever they got.`),
    Object.keys(AGAINST).filter((holdout) => effect[holdout]).map((holdout) => comparison(holdout, effect[holdout])),
  ].flat(3);
}

/** The effect of a launch in a cell of a table. */
export function effectCell(effect) {
  if (!effect) return "";
  if (effect.status !== "measured") return effect.status === "waiting" ? `due on ${date(effect.due)}` : "not measured";
  const { further } = effect.launch_holdout ?? effect.global_holdout ?? {};
  if (!further) return "";
  return further.difference === null ? further.verdict : `further: ${difference("further", further.difference)}, ${further.verdict}`;
}

/** The launches of each month and template together. */
export function effectByMonth(pooled) {
  if (!pooled.length) return null;
  const rows = pooled.flatMap((each) =>
    Object.keys(AGAINST).filter((holdout) => each[holdout]).flatMap((holdout) =>
      Object.keys(OUTCOMES).map((outcome) => {
        const found = each[holdout][outcome];
        return [each.month, each.template, each.launches.length, holdout === "launch_holdout" ? "of the launch" : "of all campaigns",
          each[holdout].mailed, each[holdout].held_out, OUTCOMES[outcome], difference(outcome, found.difference), interval(outcome, found), verdict(outcome, found)];
      })));
  return [
    el("h2", {}, "Effect by month"),
    table("The launches of a template and month together; each player counts in the first of them",
      ["Month", "Template", "#Launches", "Holdout", "#Mailed", "#Held out", "Outcome", "#Difference", "#95 % interval", "Verdict"], rows),
  ];
}
