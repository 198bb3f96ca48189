// Charts by Plotly's own script, from the installed package. Without it the tables stand alone. A chart gets numbers,
// dates and words of this file only: Plotly reads some HTML in its texts.
import { el } from "./page.js";

let loading;

function plotly() {
  loading ??= new Promise((resolve) => {
    const script = el("script", { src: "plotly.js" });
    script.addEventListener("load", () => resolve(window.Plotly ?? null));
    script.addEventListener("error", () => resolve(null));
    document.head.append(script);
  });
  return loading;
}

/** An empty place with a text alternative, which is filled once the tables are painted. */
export function chart(description, traces, layout = {}) {
  const place = el("div", { class: "chart", role: "img", "aria-label": description, hidden: true });
  const draw = async () => {
    const Plotly = await plotly();
    if (!Plotly || !place.isConnected) return;
    place.hidden = false;
    const style = getComputedStyle(document.documentElement);
    const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: line, zerolinecolor: line };
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text },
      margin: { t: 10, r: 10, b: 40, l: 60 }, height: 300, hovermode: "x unified",
      legend: { orientation: "h", y: 1.12 }, ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, rangemode: "tozero", ...layout.yaxis },
    };
    await Plotly.react(place, traces, whole, { displayModeBar: false, responsive: true });
    place.dataset.drawn = "true";
  };
  // after the first paint of the tables
  requestAnimationFrame(() => setTimeout(draw));
  addEventListener("themechange", draw);
  return place;
}
