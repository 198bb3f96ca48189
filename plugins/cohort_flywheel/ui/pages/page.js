// What the pages share. All text from Airflow is set as text, never as HTML.

const API = new URL("../api/v2/", location.href);
export const FIGURES = { dag: "cohort_figures", task: "count_figures" };

/** An answer of Airflow that is not a success. */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Ask Airflow's REST API with the reader's own login; throws ApiError. */
export async function ask(path, body) {
  const options = { credentials: "same-origin", headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(new URL(path, API), options);
  if (!answer.ok) {
    const text = await answer.text();
    let detail = text;
    try {
      detail = JSON.parse(text).detail ?? text;
    } catch {
      // not JSON: the text itself
    }
    throw new ApiError(answer.status, typeof detail === "string" ? detail : JSON.stringify(detail));
  }
  return answer.json();
}

/** A path of the API, with each part encoded. */
export function path(strings, ...parts) {
  return strings.reduce((whole, each, index) => whole + encodeURIComponent(parts[index - 1]) + each);
}

/** The value of an XCom, or null if it does not exist. */
export async function xcom(dag, run, task, key) {
  try {
    return (await ask(path`dags/${dag}/dagRuns/${run}/taskInstances/${task}/xcomEntries/${key}`)).value;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** The id of the newest run that has figures, or null. */
export async function figuresRun() {
  try {
    const found = await ask(path`dags/${FIGURES.dag}/dagRuns` + "?state=success&order_by=-end_date&limit=1");
    return found.dag_runs.length ? found.dag_runs[0].dag_run_id : null;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** An element: attributes, then children; a string or number becomes a text node. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) made.append(child instanceof Node ? child : String(child));
  }
  return made;
}

/** A table; a column whose name begins with # has numbers. A cell is text or a node. */
export function table(caption, head, rows) {
  const numbers = head.map((name) => name.startsWith("#"));
  const cells = (tag, row) =>
    row.map((cell, index) => {
      const scope = tag === "th" ? { scope: "col" } : {};
      return el(tag, { class: numbers[index] ? "number" : undefined, ...scope }, typeof cell === "number" ? number(cell) : cell);
    });
  return el(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, cells("th", head.map((name) => name.replace(/^#/, ""))))),
      el("tbody", {}, rows.map((row) => el("tr", {}, cells("td", row)))),
    ),
  );
}

/** Figures side by side: [name, value, remark]. */
export function figures(...entries) {
  return el(
    "dl",
    { class: "figures" },
    entries.map(([name, value, remark]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "number" ? number(value) : value, remark ? el("small", {}, remark) : null)),
    ),
  );
}

export const number = (value) => (value === null || value === undefined ? "" : Number(value).toLocaleString("en-US", { maximumFractionDigits: 6 }));
export const signed = (value) => (value === null || value === undefined ? "" : (value > 0 ? "+" : "") + number(value));
export const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "");
export const date = (text) => (text ? String(text).slice(0, 10) : "");
export const instant = (text) => (text ? `${String(text).slice(0, 16).replace("T", " ")} UTC` : "");
export const words = (text) => String(text).replaceAll("_", " ");

/** A text with a button that copies it; where the browser does not let a page copy, the text is selected. */
export function copied(text) {
  const shown = el("code", {}, text);
  const said = el("span", { class: "muted", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(shown);
      said.textContent = "selected";
    }
  };
  return el("span", { class: "copy" }, shown, el("span", {}, said, " ", el("button", { type: "button", onclick: copy, "aria-label": `Copy ${text}` }, "Copy")));
}

/** The address of a run in Airflow's own UI, which a new window may not open from the frame: it is shown to be copied. */
export const runLabel = (run) => (run ? `${run.dag_id} · ${run.run_id}` : "");

/** Replace the page; the first paint has tables only. */
export function show(...content) {
  const page = document.getElementById("page");
  page.replaceChildren(...content.flat().filter(Boolean));
  page.setAttribute("aria-busy", "false");
}

/** Say what is wrong and what to do. */
export function showError(error) {
  const sentences = {
    401: "You are not logged in to Airflow: log in, then open this page again.",
    403: "Your role may not read this: ask an Airflow admin for a role that reads DAG runs and XComs (User, or Viewer).",
  };
  const text = sentences[error.status] ?? `Airflow does not answer as expected (${error.status ?? "no answer"}): ${error.message}`;
  show(el("p", { class: "bad", role: "alert" }, text));
}

/** Run the page; an error of Airflow is shown. */
export async function start(main) {
  followTheme();
  try {
    await main();
  } catch (error) {
    showError(error);
    if (!(error instanceof ApiError)) throw error;
  }
}

/** Take Airflow's theme, which its page has as a class, or the system's. */
function followTheme() {
  const outer = parent === window ? null : parent.document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const dark = outer ? outer.classList.contains("dark") || outer.dataset.theme === "dark" : system.matches;
    document.documentElement.classList.toggle("dark", dark);
    dispatchEvent(new Event("themechange"));
  };
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class", "data-theme"] });
  system.addEventListener("change", apply);
  apply();
}
