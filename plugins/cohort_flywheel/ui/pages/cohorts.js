// All cohorts, and one cohort: index.html#<cohort>.
import { FIGURES, ask, date, el, figures, figuresRun, instant, number, show, signed, start, table, xcom } from "./page.js";
import { cohortPage } from "./cohort.js";

/** A cohort is late if its result does not follow within so many hours after its as-of. */
const LATE_HOURS = 3;
const HOUR = 3_600_000;

let overview;
let runs;

/** The runs of the last two days that have not succeeded: one request for all DAGs. */
async function unfinishedRuns(dagIds) {
  const since = new Date(Date.now() - 48 * HOUR).toISOString();
  const body = { dag_ids: dagIds, states: ["failed", "running", "queued"], run_after_gte: since, order_by: "-run_after", page_limit: 100 };
  return (await ask("dags/~/dagRuns/list", body)).dag_runs;
}

/** The cohort of a run: its param, or that of its DAG. */
const cohortOf = (run) => run.conf?.cohort ?? overview.cohorts.find((each) => each.dag_id === run.dag_id)?.cohort;

/** What a cohort's last run is like: [order, class, text]. */
function stateOf(entry, all) {
  const now = Date.now();
  const own = all.filter((run) => cohortOf(run) === entry.cohort);
  const counted = entry.day ? Date.parse(entry.counted) : 0;
  const failed = own.find((run) => run.state === "failed" && Date.parse(run.end_date) > counted);
  if (failed) return [0, "bad", `failed ${instant(failed.end_date)}`];
  const active = own.find((run) => run.state !== "failed");
  if (active) return [2, "", `${active.state} since ${instant(active.start_date ?? active.queued_at)}`];
  const at = entry.day?.recorded ? ` ${instant(entry.day.recorded)}` : "";
  if (!entry.dag_id) return [4, "muted", entry.day ? `started by hand${at}` : "no result yet"];
  const due = Date.parse(overview.next_as_of);
  const newest = now > due ? due : Date.parse(overview.newest_as_of);
  const behind = !entry.day || Date.parse(entry.day.as_of) < newest;
  if (behind && now > newest + LATE_HOURS * HOUR) return [1, "warn", "late: no result of the newest day"];
  return entry.day ? [3, "good", `succeeded${at}`] : [4, "muted", "no result yet"];
}

function overviewPage() {
  const rows = overview.cohorts
    .map((entry) => ({ entry, state: stateOf(entry, runs) }))
    .sort((a, b) => a.state[0] - b.state[0] || a.entry.cohort.localeCompare(b.entry.cohort));
  const place = el("div");
  const draw = (wanted) => {
    const shown = rows.filter(({ entry }) => `${entry.cohort} ${entry.description}`.toLowerCase().includes(wanted));
    place.replaceChildren(
      table(
        `${number(shown.length)} of ${number(rows.length)} cohorts; failed and late ones first`,
        ["Cohort", "#Members", "#Change", "#In the segment", "Newest result", "Last run", "Next run"],
        shown.map(({ entry, state }) => [
          el("div", {}, el("a", { href: `#${encodeURIComponent(entry.cohort)}` }, entry.cohort), el("div", { class: "muted" }, entry.description)),
          entry.day ? entry.day.members : "",
          entry.before === null ? "" : signed(entry.day.members - entry.before),
          entry.day ? entry.day.rows : "",
          entry.day ? date(entry.day.as_of) : "",
          el("span", { class: state[1] }, state[2]),
          entry.dag_id ? instant(overview.next_as_of) : "",
        ]),
      ),
    );
  };
  const filter = el("input", { type: "search", "aria-label": "Filter the cohorts", placeholder: "Filter …", oninput: (event) => draw(event.target.value.toLowerCase()) });
  draw("");
  const members = rows.reduce((sum, { entry }) => sum + (entry.day?.members ?? 0), 0);
  show(
    el("h1", {}, "Cohorts"),
    el("p", { class: "muted" }, `Counted ${instant(overview.counted)}; destination ${overview.destination}.`),
    overview.unreadable.length ? el("p", { class: "bad" }, `cohorts.yaml has an error in: ${overview.unreadable.join(", ")}. A run of such a cohort fails in plan with the line.`) : null,
    figures(
      ["Cohorts", rows.length],
      ["Need attention", rows.filter(({ state }) => state[0] < 2).length],
      ["Members, of all cohorts", members, "a player may be in several"],
    ),
    el("p", {}, filter),
    place,
  );
}

async function route() {
  const name = decodeURIComponent(location.hash.slice(1));
  const entry = name && overview.cohorts.find((each) => each.cohort === name);
  if (!entry) {
    overviewPage();
    if (name) document.getElementById("page").prepend(el("p", { class: "bad", role: "alert" }, `cohorts.yaml does not have the cohort ${name}.`));
    return;
  }
  const found = entry.figures_run && (await xcom(FIGURES.dag, entry.figures_run, FIGURES.task, `cohort_${name}`));
  cohortPage(entry, found, stateOf(entry, runs), overview);
}

await start(async () => {
  const run = await figuresRun();
  overview = run && (await xcom(FIGURES.dag, run, FIGURES.task, "overview"));
  if (!overview) {
    show(
      el("h1", {}, "Cohorts"),
      el("p", {}, "No cohort was counted yet. The DAG cohort_figures counts after each verified segment: switch on cohort_to_segment, or trigger cohort_figures to count the results that exist."),
    );
    return;
  }
  runs = await unfinishedRuns(overview.dag_ids);
  addEventListener("hashchange", () => start(route));
  await route();
});
