// Tables of counts that several pages have.
import { el, instant, number, percent, table, words } from "./page.js";
import { LIMITS } from "./reasons.js";

/** Each limit, what was found, and whether it holds. */
export function limitTable(results) {
  return table("The limits before the import, and how close they are", ["Limit", "#Allowed", "#Found", "#Used", "Result", ""],
    results.map((each) => [
      LIMITS[each.limit] ?? words(each.limit),
      each.allowed,
      number(each.found),
      used(each),
      el("span", { class: each.holds ? "good" : "bad" }, each.found === null ? "not compared" : each.holds ? "holds" : "does not hold"),
      el("span", { class: "muted" }, each.sentence),
    ]));
}

/** How much of a limit is used, in percent; 100 % is the limit. Of a minimum it is what the limit is of the number found. */
function used({ limit, allowed, found }) {
  if (found === null || found === undefined) return "";
  const [part, whole] = limit.startsWith("min_") ? [allowed, Math.abs(found)] : [Math.abs(found), allowed];
  return whole ? percent(part, whole) : part ? "over 100 %" : percent(0, 1);
}

/** Counts of a campaign that it has; a mapping of reasons is written out. */
export function campaignRows(launched) {
  return Object.entries(launched).filter(([, value]) => value !== null).map(([name, value]) => [words(name), written(value)]);
}

function written(value) {
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([why, count]) => `${words(why)}: ${number(count)}`).join(", ") || "0";
  }
  return typeof value === "number" ? number(value) : String(value ?? "");
}

const DELIVERY = {
  delivered: "delivered",
  sent: "sent, no later event",
  delayed: "delayed, SES tries again",
  bounced: "bounced",
  rejected: "rejected by SES",
  rendering_failure: "not rendered",
  tracked: "only an open, a click or a complaint",
};
/** The rates from which SES reviews an account [SES developer guide, reputation metrics]. */
const REVIEWED = { bounced: 0.05, complained: 0.001 };

/** What became of the messages of a launch, by the events of SES; each message counts once in each row. */
export function engagementOf(engagement) {
  if (!engagement) {
    return el("p", { class: "muted" }, "No events were counted for this launch: the DAG engagement counts them, if it is switched on.");
  }
  const { as_of: asOf, counts } = engagement;
  const delivered = (counts.states.delivered ?? 0) + (counts.states.tracked ?? 0);
  const share = (name, label) => [label, counts[name], percent(counts[name], delivered), counts[`${name}_unlikely_bot`] ?? "", counts[`${name}_no_flag`] ?? ""];
  return [
    el("h2", {}, "Engagement"),
    el("p", { class: "muted" }, `By the events up to ${instant(asOf)}. These are no effect: readers who click differ from the others anyway.`),
    table(`The delivery state of each of ${number(counts.messages)} messages`, ["State", "#Messages", "#Of all"],
      Object.keys(DELIVERY).filter((state) => counts.states[state])
        .map((state) => [DELIVERY[state], counts.states[state], percent(counts.states[state], counts.messages)])),
    table("Opens, clicks, unsubscribes and complaints: messages that have one", ["", "#Messages", "#Of delivered", "#Unlikely a bot", "#Without a bot flag"],
      [share("opened", "opened"), share("clicked", "clicked"), share("unsubscribed", "unsubscribed"),
        share("unsubscribe_clicked", "clicked the link to unsubscribe"), share("complained", "complained"),
        share("untracked", "sent without tracking of opens and clicks")]),
    clicksOf(counts.clicks),
    table("Rates of this launch, beside those from which SES reviews an account", ["", "#Rate", "#Review from"], [
      rate("hard bounces", (counts.bounces["Permanent:General"] ?? 0) + (counts.bounces["Permanent:NoEmail"] ?? 0), counts.messages, REVIEWED.bounced),
      rate("complaints", counts.complained, counts.messages, REVIEWED.complained),
    ]),
    counts.in_doubt ? el("p", {}, `Players in doubt: ${number(counts.in_doubt)}. By the events the e-mail was sent to ${number(counts.in_doubt_sent)} of them.`) : null,
  ].flat();
}

/** Clicks by link and by time, without those that SES flags as a likely bot's. */
function clicksOf(clicks) {
  const links = Object.entries(clicks.links).map(([link, count]) => [el("code", {}, link), count]);
  if (clicks.other_links) links.push(["links that differ by player", clicks.other_links]);
  if (!links.length) return null;
  const clicked = Object.values(clicks.times).reduce((total, count) => total + count, 0);
  let until = 0;
  return [
    table("Clicks by link, without likely bots: messages that have one", ["Link", "#Messages"], links),
    clicked ? table("Time from the e-mail to the first click", ["Within", "#Messages", "#Of these"],
      Object.entries(clicks.times).map(([time, count]) => [time === "later" ? "in all" : time, (until += count), percent(until, clicked)])) : null,
  ];
}

function rate(label, part, whole, limit) {
  const shown = percent(part, whole) || "0.0 %";
  return [label, el("span", { class: whole && part / whole >= limit ? "bad" : "good" }, shown), percent(limit, 1)];
}
