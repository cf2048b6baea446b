// Uploads the network and the images, then submits the job; what the service refuses is shown with field, rule and value.

const form = document.getElementById("new");
const answer = document.getElementById("answer");
const button = form.querySelector("button[type=submit]");

function say(kind, lines) {
  const note = document.createElement("div");
  note.className = `note ${kind}`;
  for (const line of lines) note.append(Object.assign(document.createElement("p"), { textContent: line }));
  answer.replaceChildren(note);
}

async function ask(path, options) {
  const response = await fetch(path, { method: "POST", ...options });
  const body = await response.json();
  if (response.ok) return body;
  const errors = (body.errors ?? []).map((error) => `${error.field}: ${error.rule}${error.value === null ? "" : `, got ${JSON.stringify(error.value)}`}`);
  throw new Error([`${body.title}: ${body.detail}`, ...(errors.length > 1 ? errors : [])].join("\n"));
}

function upload(path, file, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append("file", file);
  return ask(path, { body });
}

const number = (text) => Number(text.trim().replace(",", "."));
const numbers = (text) => JSON.stringify(text.split(/[;\s]+|,\s*/).filter(Boolean).map(Number));

function limits(part) {
  const filled = [...part.querySelectorAll("[data-limit]")].filter((input) => input.value.trim());
  return Object.fromEntries(filled.map((input) => [input.dataset.limit, number(input.value)]));
}

function job(model, dataset) {
  const field = form.elements;
  const chosen = [...form.querySelectorAll(".device")].filter((part) => part.querySelector("[name=device]").checked);
  const budget = { trials: field.trials.value.trim() ? number(field.trials.value) : null };
  if (field.minutes.value.trim()) budget.minutes = number(field.minutes.value);
  return {
    name: field.name.value, model_id: model.id, dataset_id: dataset.id, budget, seed: number(field.seed.value),
    devices: chosen.map((part) => ({ name: part.dataset.device, limits: limits(part) })),
    limits: field.drop.value.trim() ? { accuracy_drop: number(field.drop.value) / 100 } : {},
  };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = form.elements;
  if (!form.querySelector("[name=device]:checked")) return say("bad", ["Choose at least one device."]);
  button.disabled = true;
  try {
    say("", ["Reading the network…"]);
    const model = await upload("/v1/models", field.model.files[0], {
      task: "classification", layout: field.layout.value, scale: field.scale.value,
      mean: numbers(field.mean.value), std: numbers(field.std.value),
      ...(field.tensors.files.length ? { data: field.tensors.files[0] } : {}),
    });
    say("", ["Reading the images…"]);
    const dataset = await upload("/v1/datasets", field.data.files[0], {});
    say("", ["Checking the limits…"]);
    const queued = await ask("/v1/jobs", {
      headers: { "Content-Type": "application/json" }, body: JSON.stringify(job(model, dataset)),
    });
    location.assign(`/jobs/${queued.id}`);
  } catch (error) {
    say("bad", error.message.split("\n"));
    button.disabled = false;
  }
});
