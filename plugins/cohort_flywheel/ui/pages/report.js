// The report of one run: report.html?dag_id=…&run_id=…, the tab Report.
import { FIGURES, ask, copied, date, el, figures, figuresRun, instant, number, path, percent, show, signed, start, table, xcom } from "./page.js";
import { campaignRows, engagementOf, limitTable } from "./counts.js";
import { effectCell, effectOf } from "./effect.js";
import { REASONS } from "./reasons.js";

const query = new URLSearchParams(location.search);
const dag = query.get("dag_id") ?? "";
const run = query.get("run_id") ?? "";
const CODE = /CF-[A-Z]+-\d{2}/;

/** The last sentence of a failed task that begins with a code, from its log; null without one. */
export function failureIn(log) {
  const lines = [];
  for (const entry of Array.isArray(log.content) ? log.content : String(log.content ?? "").split("\n")) {
    if (typeof entry === "string") lines.push(entry);
    else lines.push(entry.event, ...(entry.error_detail ?? []).map((each) => each.exc_value));
  }
  const found = lines.filter((line) => typeof line === "string" && CODE.test(line));
  return found.length ? found.at(-1).slice(found.at(-1).search(CODE)) : null;
}

async function failures(tasks) {
  const failed = tasks.filter((task) => task.state === "failed");
  return Promise.all(
    failed.map(async (task) => {
      const address = path`dags/${dag}/dagRuns/${run}/taskInstances/${task.task_id}/logs/${task.try_number}`;
      const log = await ask(`${address}?full_content=true&map_index=${task.map_index ?? -1}`).catch(() => ({}));
      return { task: task.task_id, sentence: failureIn(log) };
    }),
  );
}

/** The rows of the runbook by code: the cause, and what to do, of which "After <code>:" has more below the table. */
export function runbookRows(text) {
  const rows = {};
  for (const line of text.split("\n")) {
    const [, code, cause, todo] = line.split("|").map((cell) => cell.trim());
    if (code && /^CF-[A-Z]+-\d{2}$/.test(code)) rows[code] = { cause: plain(cause), todo: [plain(todo)] };
  }
  for (const [, code, list] of text.matchAll(/^After (CF-[A-Z]+-\d{2}):\n\n((?:[- ] .*\n)+)/gm)) {
    if (rows[code]) rows[code].todo = list.split(/^- /m).slice(1).map((item) => plain(item.replace(/\s+/g, " ")));
  }
  return rows;
}

/** Markdown without its marks and the addresses of its links. */
const plain = (text) => (text ?? "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/[`*]/g, "").trim();

async function runbook() {
  const answer = await fetch("runbook.md").catch(() => null);
  return answer?.ok ? runbookRows(await answer.text()) : {};
}

function failedTasks(failed, rows) {
  return failed.map(({ task, sentence }) => {
    const { cause, todo } = rows[sentence?.match(CODE)?.[0]] ?? {};
    return el(
      "section",
      { class: "panel" },
      el("p", {}, el("strong", { class: "bad" }, `${task} failed`)),
      el("p", {}, sentence ?? "Its log has no sentence with a code: open the log of the task."),
      cause ? el("p", {}, el("strong", {}, "Cause: "), cause) : null,
      todo?.length === 1 ? el("p", {}, el("strong", {}, "Do: "), todo[0]) : null,
      todo?.length > 1 ? [el("p", {}, el("strong", {}, "Do:")), el("ul", {}, todo.map((each) => el("li", {}, each)))] : null,
    );
  });
}

function funnel(report) {
  const { extract, segment, imported } = report;
  const steps = [
    ["vertices", extract?.vertices],
    ["members", extract?.members],
    ["contacts", segment ? segment.members - (segment.rejects.no_record ?? 0) : undefined],
    ["rows", segment?.rows],
    ["in the segment", imported?.segment_size],
  ].filter(([, count]) => count !== undefined && count !== null);
  if (!steps.length) return null;
  const most = Math.max(...steps.map(([, count]) => count), 1);
  return [
    el("h2", {}, "Players at each step"),
    table("From the graph to the segment", ["Step", "#Players", ""], steps.map(([name, count]) => [name, count, bar(count, most)])),
    extract ? el("p", { class: "muted" }, `${number(extract.merged)} vertices were merged, ${number(extract.vertices_without_playerId)} have no playerId. Read from ${extract.snapshot ? `the ${extract.snapshot} snapshot` : `the ${extract.source}`} of ${instant(extract.read_at)}.`) : null,
  ];
}

const bar = (count, most) => {
  const made = el("span", { class: "bar" });
  made.style.width = `${Math.round((100 * count) / most)}%`;
  return el("div", { class: "track", "aria-hidden": "true" }, made);
};

function rejects(segment) {
  if (!segment || !Object.keys(segment.rejects).length) return null;
  return [
    el("h2", {}, "Rejects"),
    table("Members who are not a row, by reason", ["Reason", "#Members", "#Of the members", "Means", "What to do"],
      Object.entries(segment.rejects).sort((a, b) => b[1] - a[1]).map(([reason, count]) =>
        [reason, count, percent(count, segment.members), REASONS[reason]?.[0] ?? "", REASONS[reason]?.[1] ?? ""])),
  ];
}

function limits(results) {
  if (!results) return null;
  const { override } = results;
  return [el("h2", {}, "Limits"), limitTable(results.limits), override ? el("p", { class: "warn" }, `Overridden by ${override.by}: ${override.reason}`) : null];
}

function campaign(found) {
  if (!found) return null;
  const { answer } = found;
  return [
    el("h2", {}, "Campaign"),
    el("p", {}, `Mode ${found.mode}, template ${found.template}, from ${found.from}, ${number(found.rows)} rows.`),
    el("p", {}, answer ? (answer.timed_out ? "There was no answer in time." : `${answer.approved ? "Approved" : "Rejected"} by ${answer.by}, ${instant(answer.at)}.`) : "No approval is recorded."),
    found.launched ? table("What happened to the messages", ["", "Number"], campaignRows(found.launched)) : null,
  ];
}

function files(report) {
  const bucket = report.report_url?.split("/").slice(0, 3).join("/");
  const rows = [
    ["extract", report.extract?.url],
    ["segment file", report.segment?.url],
    ["rejects", report.segment && bucket ? `${bucket}/${report.segment.rejects_key}` : null],
    ["report", report.report_url],
  ].filter(([, address]) => address);
  return [el("h2", {}, "Files"), table("Addresses in S3", ["File", "Address"], rows.map(([name, address]) => [name, copied(address)]))];
}

/** This run beside the result of the day before, from the figures of the cohort. */
async function comparison(report, newest) {
  const { plan, segment } = report;
  if (!plan || !segment) return null;
  const overview = newest && (await xcom(FIGURES.dag, newest, FIGURES.task, "overview"));
  const entry = overview?.cohorts.find((each) => each.cohort === plan.cohort);
  const found = entry?.figures_run && (await xcom(FIGURES.dag, entry.figures_run, FIGURES.task, `cohort_${plan.cohort}`));
  const before = found?.days.filter((day) => Date.parse(day.as_of) < Date.parse(plan.as_of)).at(-1);
  if (!before) return null;
  const reasons = [...new Set([...Object.keys(segment.rejects), ...Object.keys(before.rejects)])];
  const row = (name, now, then) => [name, now, then, signed(now - then)];
  return [
    el("h2", {}, "Compared with the result before"),
    table(`This run, and the result of ${date(before.as_of)} (threshold ${number(before.threshold)})`, ["", "#This run", "#Before", "#Change"], [
      row("members", segment.members, before.members),
      row("rows", segment.rows, before.rows),
      ...reasons.map((reason) => row(reason, segment.rejects[reason] ?? 0, before.rejects[reason] ?? 0)),
    ]),
  ];
}

/** What became of the launch of this run, from the figures of all launches: its own report is written before. */
async function launched(report, newest) {
  if (!report.campaign?.launched) return null;
  const found = newest && (await xcom(FIGURES.dag, newest, FIGURES.task, "launches"));
  const launch = found?.launches.find((each) => each.run.dag_id === dag && each.run.run_id === run);
  return launch ? [engagementOf(launch.engagement), effectOf(launch.effect)].flat() : null;
}

/** The effects of the cohort's launches that were known when the run ended. */
function earlierEffects(effect) {
  if (!effect?.launches.length) return null;
  return [
    el("h2", {}, "Effect of the cohort's launches"),
    table(`By the report of the DAG engagement as of ${instant(effect.as_of)}`, ["Launch", "#Mailed", "#Held out", "Effect", ""],
      effect.launches.map((each) => {
        const { mailed, held_out: heldOut, further } = each.launch_holdout ?? each.global_holdout ?? {};
        return [each.launch, number(mailed), number(heldOut), effectCell(each), el("div", { class: "muted sentence" }, further?.sentence ?? "")];
      })),
  ];
}

await start(async () => {
  const [{ task_instances: tasks }, report] = await Promise.all([
    ask(path`dags/${dag}/dagRuns/${run}/taskInstances` + "?limit=100"),
    xcom(dag, run, "report", "report"),
  ]);
  const failed = tasks.some((task) => task.state === "failed") ? failedTasks(await failures(tasks), await runbook()) : [];
  const states = table("The tasks of the run", ["Task", "State"], tasks.map((task) => [task.task_id, task.state ?? "not started"]));
  if (!report) {
    const written = tasks.some((task) => task.task_id === "report");
    show(el("h1", {}, "Report"), failed, el("p", {}, written ? "The report is written when the run ends." : "Runs of this DAG have no report."), states);
    return;
  }
  const { plan } = report;
  const compared = el("div");
  const followed = el("div");
  show(
    el("h1", {}, `Report: ${report.outcome}`),
    plan ? el("p", {}, `${plan.cohort}: ${plan.property} ${plan.direction} ${number(plan.threshold)} (threshold from ${plan.threshold_from}), as of ${instant(plan.as_of)}${plan.dry_run ? ", dry run" : ""}`) : el("p", {}, "The run has no plan."),
    report.run.triggered_by ? el("p", { class: "muted" }, `Started by ${report.run.triggered_by}.`) : null,
    failed,
    report.faults.map((fault) => el("p", { class: "bad" }, `The figures contradict each other: ${fault}`)),
    report.suppressions?.in_time === false ? el("p", { class: "warn" }, `The suppression list did not have the events of this as-of: the DAG engagement had not read them. It had those up to ${instant(report.suppressions.as_of) || "no as-of"}.`) : null,
    report.segment ? figures(["Members", report.segment.members], ["Rows", report.segment.rows], ["Rejects", report.segment.members - report.segment.rows]) : null,
    funnel(report),
    rejects(report.segment),
    limits(report.limits),
    compared,
    campaign(report.campaign),
    followed,
    earlierEffects(report.effect),
    files(report),
    el("details", {}, el("summary", {}, "Tasks"), states),
  );
  const fill = async (place, content) => place.replaceChildren(...((await content) ?? []).filter(Boolean));
  const newest = await figuresRun().catch(() => null); // the report stands without the figures
  await Promise.all([
    fill(compared, comparison(report, newest).catch(() => null)),
    fill(followed, launched(report, newest).catch(() => null)),
  ]);
});
