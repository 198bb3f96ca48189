// One cohort: its size by day, other thresholds, why members cannot be mailed, limits, and a run of one's own.
import { chart } from "./charts.js";
import { ApiError, ask, copied, date, el, figures, instant, number, path, percent, runLabel, show, signed, table, words } from "./page.js";
import { limitTable } from "./counts.js";
import { REASONS } from "./reasons.js";

const SHOWN_DAYS = 31;

export function cohortPage(entry, found, state, overview) {
  const head = [
    el("p", {}, el("a", { href: "#" }, "← All cohorts")),
    el("h1", {}, entry.cohort),
    el("p", { class: "muted" }, entry.description),
    el("p", { class: state[1] }, `Last run: ${state[2]}`),
  ];
  if (!found || !found.days.length) {
    const why = found ? "This cohort has no verified segment yet." : "The figures of this cohort are not in Airflow's database: trigger the DAG cohort_figures, which counts them again.";
    show(...head, el("p", {}, why), runPanel(entry, overview, entry.threshold));
    return;
  }
  const day = found.days.at(-1);
  const before = found.days.at(-2);
  show(
    ...head,
    figures(
      ["Members", day.members, before ? `${signed(day.members - before.members)} since ${date(before.as_of)}` : null],
      ["In the segment", day.rows, percent(day.rows, day.members)],
      ["Cannot be mailed", day.members - day.rows, percent(day.members - day.rows, day.members)],
      ["Threshold", `${found.direction} ${number(day.threshold)}`, day.threshold_from ? `from ${day.threshold_from}` : null],
    ),
    el("p", { class: "muted" }, `As of ${instant(day.as_of)}, by ${runLabel(day.run)}${day.started_by ? `, started by ${day.started_by}` : ""}.`),
    rejects(day),
    thresholds(entry, found, day, overview),
    history(found),
    changes(found),
    stayed(found, day),
    overlap(found, day),
    limits(found),
  );
}

function rejects(day) {
  const rows = Object.entries(day.rejects).sort((a, b) => b[1] - a[1]);
  if (!rows.length) return null;
  return [
    el("h2", {}, "Cannot be mailed because"),
    table(
      "Members who are not in the segment, by reason",
      ["Reason", "#Members", "#Of the members", "What to do"],
      rows.map(([reason, count]) => [REASONS[reason]?.[0] ?? words(reason), count, percent(count, day.members), REASONS[reason]?.[1] ?? ""]),
    ),
  ];
}

function thresholds(entry, found, day, overview) {
  const counted = found.thresholds;
  if (!counted) return [el("h2", {}, "Another threshold"), el("p", {}, "The snapshot of the newest day cannot be used, so other thresholds are not counted."), runPanel(entry, overview, day.threshold)];
  const at = (index) => counted.thresholds[index];
  const distances = counted.thresholds.map((each) => Math.abs(each - day.threshold));
  const index = distances.indexOf(Math.min(...distances));
  const said = el("output", { for: "threshold", "aria-live": "polite" });
  const slider = el("input", { id: "threshold", type: "range", min: 0, max: counted.members.length - 1, value: index });
  const panel = el("div");
  const move = () => {
    const chosen = Number(slider.value);
    const exact = at(chosen) === day.threshold;
    said.textContent = `${found.direction} ${number(at(chosen))}: ${number(counted.members[chosen])} members${exact ? " (in force)" : ` (${signed(counted.members[chosen] - day.members)})`}`;
    slider.setAttribute("aria-valuetext", said.textContent);
    panel.replaceChildren(runPanel(entry, overview, at(chosen)));
  };
  slider.addEventListener("input", move);
  move();
  const bins = counted.members.map((members, i) => members - (counted.members[i + 1] ?? 0));
  return [
    el("h2", {}, "Another threshold"),
    el("p", {}, el("label", { for: "threshold" }, "Threshold "), slider),
    el("p", {}, el("strong", {}, said)),
    el("p", { class: "muted" }, `Members as of ${date(counted.as_of)}, down to the floor ${number(at(0))} of the snapshot. Consent and addresses are applied by a run only.`),
    chart("Members by their score, from the floor up; the threshold in force is marked. The table below has the same numbers.",
      [{ type: "bar", x: bins.map((_, i) => at(i)), y: bins, name: "members" }],
      { showlegend: false, xaxis: { title: { text: "just beyond this threshold" } }, shapes: [{ type: "line", x0: day.threshold, x1: day.threshold, yref: "paper", y0: 0, y1: 1, line: { dash: "dot", color: "#d9722e" } }] }),
    el("details", {}, el("summary", {}, "Members by threshold, as a table"), table("Members that each threshold gives", ["#Threshold", "#Members"], counted.members.map((members, i) => [at(i), members]))),
    panel,
  ];
}

/** The params of a run, to be copied; and a run, after a confirmation in the page, with the reader's own rights. */
function runPanel(entry, overview, threshold) {
  const place = el("div", { class: "panel" });
  const dag = entry.dag_id ?? overview.dag_ids[0];
  const conf = { cohort: entry.cohort, threshold, dry_run: true };
  const said = el("p", { role: "status" });
  const begin = async () => {
    said.className = "";
    said.textContent = "Asking Airflow …";
    try {
      const run = await ask(path`dags/${dag}/dagRuns`, { logical_date: null, conf });
      said.textContent = `Started: ${run.dag_run_id}, ${run.state}. Open it in the DAG ${dag}.`;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      said.className = "bad";
      said.textContent = error.status === 403 ? "Your role may not start runs: send the params above to a user who may." : `Airflow refuses the run (${error.status}): ${error.message}`;
    }
    confirm.replaceChildren();
  };
  const confirm = el("div");
  const askFirst = () => {
    said.textContent = "";
    confirm.replaceChildren(
      el("p", {}, `Start a dry run of ${entry.cohort} with the threshold ${number(threshold)}? It counts everything and imports nothing.`),
      el("button", { type: "button", class: "main", onclick: begin }, "Start the dry run"), " ",
      el("button", { type: "button", onclick: () => confirm.replaceChildren() }, "Cancel"),
    );
    confirm.querySelector("button").focus();
  };
  place.append(
    el("p", {}, `Params of a dry run of the DAG ${dag}:`),
    copied(JSON.stringify(conf)),
    el("p", {}, el("button", { type: "button", onclick: askFirst }, "Start a run with these …")),
    confirm,
    said,
  );
  return place;
}

function history(found) {
  const days = found.days;
  const x = days.map((day) => day.as_of.slice(0, 10));
  const place = el("div");
  const draw = (all) => {
    const shown = (all ? days : days.slice(-SHOWN_DAYS)).toReversed();
    place.replaceChildren(
      table(
        `${number(shown.length)} of ${number(days.length)} days with a result, the newest first`,
        ["Day", "#Members", "#Joined", "#Left", "#In the segment", "#Threshold", "Run"],
        shown.map((day) => [date(day.as_of), day.members, number(day.joined), number(day.left), day.rows, day.threshold, el("span", { class: "muted" }, runLabel(day.run))]),
      ),
      all || days.length <= SHOWN_DAYS ? "" : el("p", {}, el("button", { type: "button", onclick: () => draw(true) }, `Show all ${number(days.length)} days`)),
    );
  };
  draw(false);
  return [
    el("h2", {}, "Members by day"),
    chart("Members and rows of the segment by day. The table below has the same numbers.", [
      { x, y: days.map((day) => day.members), name: "members", mode: "lines+markers", line: { color: "#2f7fd6" } },
      { x, y: days.map((day) => day.rows), name: "in the segment", mode: "lines", line: { color: "#2a8a5f" } },
    ]),
    chart("Players who joined and left by day. The table below has the same numbers.", [
      { x, y: days.map((day) => day.joined), name: "joined", type: "bar", marker: { color: "#2a8a5f" } },
      { x, y: days.map((day) => (day.left === null ? null : -day.left)), name: "left", type: "bar", marker: { color: "#d9722e" } },
    ], { barmode: "relative", height: 220 }),
    place,
  ];
}

function changes(found) {
  const rows = found.days
    .filter((day, index) => index === 0 || day.threshold !== found.days[index - 1].threshold)
    .map((day) => [date(day.as_of), day.threshold, day.threshold_from || "not recorded", day.threshold_from === "param" ? (day.started_by ?? "not recorded") : "the change of cohorts.yaml"]);
  return [el("h2", {}, "Threshold"), table("The threshold in force, from each day on", ["From", "#Threshold", "Set by", "Changed by"], rows)];
}

function stayed(found, day) {
  if (!found.stayed.length) return null;
  return [
    el("h2", {}, "Time in the cohort"),
    table("Of the members of the newest day, those who were also members before", ["Also members", "#Members", "#Of the members"],
      found.stayed.map((each) => [`${number(each.days)} ${each.days === 1 ? "day" : "days"} before`, each.members, percent(each.members, day.members)])),
  ];
}

function overlap(found, day) {
  const rows = found.overlaps.filter((each) => each.members);
  if (!rows.length) return null;
  return [
    el("h2", {}, "In other cohorts too"),
    table("Members of the newest day who are members of another cohort", ["Cohort", "#Members", "#Of the members"],
      rows.map((each) => [el("a", { href: `#${encodeURIComponent(each.cohort)}` }, each.cohort), each.members, percent(each.members, day.members)])),
  ];
}

function limits(found) {
  if (!found.limits.length) return null;
  return [el("h2", {}, "Limits"), limitTable(found.limits)];
}
