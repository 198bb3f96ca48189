// The launches of campaigns, and one launch: campaigns.html#<name>.
import { FIGURES, copied, date, el, figures, figuresRun, instant, number, runLabel, show, start, table, xcom } from "./page.js";
import { campaignRows, engagementOf } from "./counts.js";
import { effectByMonth, effectCell, effectOf } from "./effect.js";

let launches;
let pooled;

const sentOf = (launch) => launch.launched.sent ?? launch.launched.players ?? null;
const sum = (counts) => Object.values(counts ?? {}).reduce((total, count) => total + count, 0);
const address = (launch) => `#${encodeURIComponent(launch.name)}`;

function answered(answer) {
  if (!answer) return "not recorded";
  return answer.timed_out ? "no answer in time" : `${answer.approved ? "approved" : "rejected"} by ${answer.by}, ${instant(answer.at)}`;
}

function listed(caption, shown) {
  return table(
    caption,
    ["Launch", "Cohort", "Template", "#Players", "#Sent", "#Withdrawn", "#Refused", "#In doubt", "Approval", "Effect"],
    shown.map((launch) => [
      el("a", { href: address(launch) }, instant(launch.reported)),
      launch.cohort,
      launch.template,
      launch.rows,
      number(sentOf(launch)),
      number(launch.launched.withdrawn && sum(launch.launched.withdrawn)),
      number(launch.launched.refused && sum(launch.launched.refused)),
      number(launch.launched.in_doubt),
      answered(launch.answer),
      effectCell(launch.effect),
    ]),
  );
}

function all() {
  show(
    el("h1", {}, "Campaigns"),
    launches.length
      ? listed(`${number(launches.length)} launches, the latest first`, launches)
      : el("p", {}, "No campaign was launched yet. A run with campaign=launch asks for approval, then sends."),
    effectByMonth(pooled),
  );
}

async function one(launch) {
  const mail = el("div");
  const earlier = launches.filter((each) => each.template === launch.template && each.reported < launch.reported);
  show(
    el("p", {}, el("a", { href: "#" }, "← All campaigns")),
    el("h1", {}, launch.name),
    el("p", { class: "muted" }, `${launch.template} to ${launch.cohort}, from ${launch.sender}, as of ${date(launch.as_of)}, by ${runLabel(launch.run)}.`),
    figures(
      ["Players", launch.rows],
      ["Sent", number(sentOf(launch))],
      ["In doubt", number(launch.launched.in_doubt ?? 0), launch.launched.in_doubt ? "may have been mailed; never mailed again by this launch" : null],
    ),
    el("p", {}, `Approval: ${answered(launch.answer)}.`),
    el("h2", {}, "Messages"),
    table("What happened to the messages", ["", "Number"], campaignRows(launch.launched)),
    launch.launched.in_doubt_list ? el("p", {}, "Players in doubt: ", copied(String(launch.launched.in_doubt_list))) : null,
    effectOf(launch.effect),
    engagementOf(launch.engagement),
    el("h2", {}, "E-mail"),
    mail,
    earlier.length ? [el("h2", {}, "Earlier launches of the template"), listed(`Launches of ${launch.template} before this one`, earlier)] : null,
  );
  const prepared = await xcom(launch.run.dag_id, launch.run.run_id, "prepare_campaign", "return_value").catch(() => null);
  mail.replaceChildren(
    ...(prepared?.message
      ? [el("p", { class: "muted" }, "As prepared for approval, for a made-up player."), el("p", {}, el("strong", {}, prepared.message.subject)), el("pre", {}, prepared.message.text)]
      : [el("p", {}, "The e-mail is not in Airflow's database any more; the S3 folder of the report has its HTML.")]),
  );
}

function route() {
  const name = decodeURIComponent(location.hash.slice(1));
  const launch = launches.find((each) => each.name === name);
  return launch ? one(launch) : all();
}

await start(async () => {
  const run = await figuresRun();
  const found = run && (await xcom(FIGURES.dag, run, FIGURES.task, "launches"));
  launches = found?.launches ?? [];
  pooled = found?.pooled ?? [];
  addEventListener("hashchange", () => start(route));
  await route();
});
