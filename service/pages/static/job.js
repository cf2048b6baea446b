// Keeps a job's page up to date: the server renders its parts, this fetches them anew when the job says that it changed.

import { drawFront, drawGrowth } from "./chart.js";

const REFRESH_MS = 1000;  // a busy search ends many trials a second
const page = document.getElementById("job");
const job = page.dataset.job;
const form = document.getElementById("axes");
const chart = document.getElementById("chart");
const growth = document.getElementById("growth");
const panel = document.getElementById("trial");
let data = null;
let chosen = panel.dataset.trial;

const choice = () => new URLSearchParams(new FormData(form));

async function answer(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response;
}

// Answers may overtake each other: what was asked for earlier never replaces what was asked for later.
function inOrder() {
  let asked = 0;
  let shown = 0;
  return () => {
    const place = ++asked;
    return () => place > shown && Boolean(shown = place);
  };
}
const frontOrder = inOrder();
const trialOrder = inOrder();
const progressOrder = inOrder();
const partOrders = {};

async function refreshFront() {
  const current = frontOrder();
  const query = choice();
  const [fragment, figures] = await Promise.all([
    answer(`/jobs/${job}/parts/front?${query}&trial=${chosen}`).then((part) => part.text()),
    answer(`/jobs/${job}/chart?${query}`).then((part) => part.json()),
  ]);
  if (!current()) return;
  const table = document.getElementById("front");
  const focused = table.contains(document.activeElement) ? document.activeElement.dataset.trial : null;
  table.innerHTML = fragment;
  markChosen();
  if (focused) table.querySelector(`a[data-trial="${focused}"]`)?.focus();
  data = figures;
  await draw();
}

async function draw() {
  if (!data) return;
  await drawFront(chart, data, {
    logarithmic: form.elements.log.checked, all: form.elements.all.checked, chosen,
  });
  await drawGrowth(growth, data);
  if (!chart.dataset.listens) {
    chart.dataset.listens = "yes";
    chart.on("plotly_click", (event) => {
      const id = event.points[0]?.customdata;
      if (id) choose(id);
    });
  }
}

async function refreshProgress() {
  const current = progressOrder();
  const part = document.getElementById("progress");
  const text = await (await answer(`/jobs/${job}/parts/progress`)).text();
  if (!current()) return;
  part.innerHTML = text;
  const { status, active } = part.querySelector("[data-status]").dataset;
  const mark = document.querySelector("#status .status");
  mark.textContent = status;
  mark.className = `status status-${status}`;
  page.dataset.active = active;
  if (active !== "yes") document.getElementById("cancel")?.remove();
}

async function showTrial({ focus }) {
  if (!chosen) return;
  const current = trialOrder();
  const trial = chosen;
  const device = form.elements.device.value;
  const part = await (await answer(`/trials/${trial}/panel?device=${encodeURIComponent(device)}`)).text();
  if (!current()) return;
  panel.innerHTML = part;
  panel.dataset.trial = trial;
  if (focus) panel.focus({ preventScroll: matchMedia("(min-width: 75rem)").matches });
}

function markChosen() {
  for (const row of document.querySelectorAll("#front tr[data-row]")) {
    row.classList.toggle("chosen", row.dataset.row === chosen);
  }
}

async function choose(id) {
  chosen = id;
  const query = choice();
  query.set("trial", id);
  history.replaceState(null, "", `?${query}`);
  markChosen();
  await Promise.all([showTrial({ focus: true }), draw()]);
}

let waiting = false;
function refreshSoon() {
  if (waiting) return;
  waiting = true;
  setTimeout(async () => {
    waiting = false;
    try {
      await Promise.all([refreshProgress(), refreshFront()]);
    } catch (error) {
      document.querySelector("#progress .progress-text").append(" The service does not answer; trying again.");
      setTimeout(refreshSoon, 5 * REFRESH_MS);
    }
  }, REFRESH_MS);
}

document.getElementById("cancel")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  const response = await fetch(`/v1/jobs/${job}/cancel`, { method: "POST" });
  event.target.textContent = response.ok ? "Cancelling" : "Cancel failed";
  refreshSoon();
});

function follow() {
  if (page.dataset.active !== "yes") return;
  const stream = new EventSource(`/v1/jobs/${job}/events`);
  for (const name of ["status", "prepared", "trial", "front", "progress", "checkpoint"]) {
    stream.addEventListener(name, () => {
      refreshSoon();
      if (page.dataset.active !== "yes") stream.close();
    });
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("#front a[data-trial]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  choose(link.dataset.trial);
});
// Forms whose answer is shown on this page: each names the part that it fills.
document.addEventListener("submit", async (event) => {
  const name = event.target.dataset.part;
  if (!name) return;
  event.preventDefault();
  const part = document.getElementById(name);
  const current = (partOrders[name] ??= inOrder())();
  part.setAttribute("aria-busy", "true");
  const response = await fetch(`${event.target.getAttribute("action")}?${new URLSearchParams(new FormData(event.target))}`);
  const text = response.ok ? await response.text() : '<p class="note bad">This cannot be answered. Are the numbers above zero?</p>';
  if (!current()) return;
  part.innerHTML = text;
  part.removeAttribute("aria-busy");
});
form.addEventListener("change", async (event) => {
  const query = choice();
  if (chosen) query.set("trial", chosen);
  history.replaceState(null, "", `?${query}`);
  if (event.target.type === "checkbox") return draw();
  await refreshFront();
  if (event.target.name === "device") await showTrial({ focus: false });
});
form.addEventListener("submit", (event) => event.preventDefault());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

await refreshFront();
follow();
