// Photos in, restored photos out: each is a job of the server's API (/openapi.json).

import { Viewer } from "./viewer.js";

const AT_A_TIME = 2;
const POLL = 300; // milliseconds
const MOST_BROKEN = 10; // uploads that break off, before the server counts as gone
const CLIP = /^video\//;
const SHOWN = /^image\/(jpeg|png|webp|avif|gif|bmp)$/; // what browsers show

const find = (id) => document.getElementById(id);
const viewer = new Viewer(document);
const photos = []; // {file, row, state, settings, progress, before, after, name, error, about}
let chosen = null;
let limits = null; // what the server takes

// --- the server ---

class Refusal extends Error {
  constructor(status, text, after) {
    super(text);
    this.status = status;
    this.after = after;
  }
}

const headers = () => (find("key").value ? { Authorization: `Bearer ${find("key").value}` } : {});

async function refusal(status, text, after) {
  let detail = "";
  try {
    detail = JSON.parse(text).detail;
  } catch { /* not a problem+json */ }
  if (status === 401) find("key-row").hidden = false;
  return new Refusal(status, detail || `the server answered ${status}`, after);
}

// A connection that breaks once is tried again.
async function ask(path, options = {}, tries = 4) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers() });
  } catch (error) {
    if (tries <= 1) throw new Refusal(0, "the server cannot be reached");
    await pause(1000);
    return ask(path, options, tries - 1);
  }
  if (!answer.ok) throw await refusal(answer.status, await answer.text());
  return answer;
}

// fetch cannot tell how much is sent.
function send(path, file, tell) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => tell(event.loaded / event.total);
    request.onerror = () => reject(new Refusal(0, "the server cannot be reached"));
    request.onload = async () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else {
        const after = Number(request.getResponseHeader("Retry-After")) || 2;
        reject(await refusal(request.status, request.responseText, after));
      }
    };
    request.send(file);
  });
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// --- photos ---

function settings() {
  return {
    model: find("model").value,
    strength: find("strength").value / 100,
    format: find("format").value,
  };
}

function add(files) {
  files = [...files];
  for (const file of files) {
    const photo = { file, state: "queued", progress: 0, settings: null };
    photos.push(photo);
    makeRow(photo);
  }
  if (files.length) choose(photos[photos.length - files.length]); // the first new one
  work();
}

// Why a file need not be sent.
function hopeless(file) {
  if (CLIP.test(file.type)) return "this page restores photos; for clips there is the command unblur run";
  if (file.size === 0) return "the file is empty";
  if (file.size <= limits.max_bytes) return "";
  return `larger than ${Math.round(limits.max_bytes / 1e6)} MB, the most that is taken`;
}

function work() {
  if (!limits) return; // the server has not said yet what it takes
  for (const photo of photos.filter((each) => each.state === "queued" && hopeless(each.file))) {
    Object.assign(photo, { state: "failed", hopeless: true, error: hopeless(photo.file) });
    draw(photo);
    if (chosen === photo) choose(photo);
  }
  const busy = photos.filter((photo) => photo.state === "busy").length;
  const next = photos.filter((photo) => photo.state === "queued").slice(0, AT_A_TIME - busy);
  for (const photo of next) restore(photo).finally(work);
}

async function restore(photo) {
  photo.state = "busy";
  photo.settings ??= settings();
  photo.error = null;
  const run = (photo.run = {}); // another one is begun when the photo is redone or dropped
  const current = () => photo.run === run;
  const tell = (text, progress) => current() && draw(Object.assign(photo, { text, progress }));
  try {
    const asked = new URLSearchParams({ model: photo.settings.model, strength: photo.settings.strength });
    if (photo.settings.format) asked.set("format", photo.settings.format);
    const shows = SHOWN.test(photo.file.type);
    const shownLater = !photo.settings.format || /jpg|png|webp|avif/.test(photo.settings.format);
    if (!shows || !shownLater) asked.set("pictures", "true");
    let job = null;
    let broken = 0;
    while (!job && current()) {
      try {
        tell("sending", 0);
        job = await send(`v1/jobs?${asked}`, photo.file, (share) => tell("sending", share));
      } catch (error) {
        // A server that is busy may hang up before it has heard the whole photo.
        const busy = error.status === 429 || (error.status === 0 && ++broken < MOST_BROKEN);
        if (!busy) throw error;
        const after = error.after || 2;
        tell(`the server is busy, again in ${after} s`, null);
        await pause(1000 * after);
      }
    }
    while (job && current() && !["done", "failed"].includes(job.state)) {
      tell(job.state === "waiting" ? "waiting" : "restoring", job.state === "waiting" ? null : job.progress);
      await pause(POLL);
      job = await (await ask(`v1/jobs/${job.id}`)).json();
    }
    if (job && job.state === "failed") throw new Refusal(job.status, job.error);
    const part = async (name) => await (await ask(`v1/jobs/${job.id}/${name}`)).blob();
    if (job && current()) await receive(photo, job, part, shows, asked.has("pictures"), current);
    if (job) ask(`v1/jobs/${job.id}`, { method: "DELETE" }).catch(() => {});
  } catch (error) {
    if (current()) {
      photo.error = error instanceof Refusal ? error.message : `unexpected: ${error.message}`;
      photo.hopeless = error.status === 413;
      photo.refused = error.status === 422; // as it is, or with these settings
      photo.state = "failed";
    }
  }
  if (current()) {
    draw(photo);
    if (chosen === photo) choose(photo);
  }
}

async function receive(photo, job, part, shows, pictures, current) {
  const result = await part("result");
  const after = pictures ? await part("after") : result;
  const before = shows ? photo.file : await part("before");
  if (!current()) return;
  forget(photo);
  photo.result = URL.createObjectURL(result);
  photo.after = URL.createObjectURL(after);
  photo.before = URL.createObjectURL(before);
  const extension = job.format;
  const given = photo.file.name.match(/^(.*?)(\.[^.]*)?$/);
  const kept = given[2] && sameFormat(given[2].slice(1), extension) ? given[2] : `.${extension}`;
  photo.name = `${given[1] || "photo"}_sharp${kept}`;
  const verdict = {
    "sharper": `about ${job.blur.toFixed(1)} pixels of blur undone`,
    "no sharper": "no sharper: too blurred, perhaps",
    "hardly changed": "hardly changed: sharp already, or too blurred",
    "untouched": "as it was",
  }[job.verdict];
  const { strength, model } = photo.settings;
  const how = [
    strength < 1 ? `strength ${Math.round(100 * strength)} %` : "",
    find("model").options.length > 1 ? model : "",
  ].filter(Boolean);
  photo.about = [verdict, `${job.seconds.toFixed(1)} s`, ...how].join(", ");
  photo.state = "done";
}

function sameFormat(first, second) {
  const plain = (text) => ({ jpeg: "jpg", jpe: "jpg", jfif: "jpg", tiff: "tif", heif: "heic" })[text] || text;
  return plain(first.toLowerCase()) === plain(second.toLowerCase());
}

function forget(photo) {
  for (const key of ["result", "after", "before"]) {
    if (photo[key]) URL.revokeObjectURL(photo[key]);
    photo[key] = null;
  }
}

// With other settings, or after a failure that may pass.
function canBeRedone(photo) {
  if (photo.state === "failed" && !photo.refused) return !photo.hopeless;
  if (!photo.settings) return false;
  return JSON.stringify(photo.settings) !== JSON.stringify(settings());
}

function redo(photo) {
  if (!canBeRedone(photo)) return;
  photo.settings = settings();
  photo.run = null;
  photo.state = "queued";
  draw(photo);
}

function drop(photo) {
  const index = photos.indexOf(photo);
  photo.run = null;
  photo.state = "dropped";
  photos.splice(index, 1);
  photo.row.remove();
  forget(photo);
  if (chosen === photo) choose(photos[Math.min(index, photos.length - 1)] || null);
  drawAll();
  work();
}

// --- what is seen ---

function makeRow(photo) {
  photo.row = document.createElement("li");
  const name = Object.assign(document.createElement("button"), {
    type: "button", className: "name", textContent: photo.file.name, title: photo.file.name,
  });
  const away = Object.assign(document.createElement("button"), {
    type: "button", className: "drop-it", textContent: "×", title: "Remove from the list",
  });
  away.setAttribute("aria-label", `Remove ${photo.file.name}`);
  const state = Object.assign(document.createElement("span"), { className: "state" });
  const bar = document.createElement("progress");
  name.addEventListener("click", () => choose(photo));
  away.addEventListener("click", () => drop(photo));
  photo.row.append(name, away, state, bar);
  find("photos").append(photo.row);
  draw(photo);
}

function draw(photo) {
  const texts = { queued: "waiting", done: photo.about, failed: photo.error, busy: photo.text };
  photo.row.querySelector(".state").textContent = texts[photo.state] || "";
  photo.row.classList.toggle("bad", photo.state === "failed");
  photo.row.classList.toggle("chosen", photo === chosen);
  photo.row.dataset.state = photo.state;
  const bar = photo.row.querySelector("progress");
  bar.hidden = photo.state !== "busy";
  if (photo.progress === null) bar.removeAttribute("value");
  else bar.value = photo.progress;
  drawAll();
}

function drawAll() {
  find("save-all").hidden = photos.filter((photo) => photo.state === "done").length < 2;
  find("again").hidden = !photos.some(canBeRedone);
  find("redo").disabled = !chosen || !canBeRedone(chosen);
  find("shown").textContent = `${find("strength").value} %`;
}

async function choose(photo) {
  const last = chosen;
  chosen = photo;
  for (const each of [last, photo]) if (each && photos.includes(each)) draw(each);
  const ready = photo && photo.state === "done";
  for (const id of ["stage", "tools"]) find(id).hidden = !ready;
  find("hint").hidden = Boolean(ready);
  find("hint").textContent = !photo
    ? "The restored photo appears here, beside what you sent."
    : photo.state === "failed" ? photo.error : "Being restored …";
  find("save").hidden = !ready;
  if (!ready) return;
  find("save").href = photo.result;
  find("save").download = photo.name;
  find("about").textContent = photo.about;
  try {
    await viewer.show(photo.before, photo.after);
    find("about").textContent = `${viewer.width} × ${viewer.height}, ${photo.about}`;
  } catch {
    find("about").textContent = `${photo.about}; this browser cannot show it, but it can be downloaded`;
  }
}

// --- beginning ---

function listen() {
  const area = find("drop");
  find("pick").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) area.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) add(event.clipboardData.files);
  });
  for (const id of ["strength", "model", "format"]) find(id).addEventListener("input", drawAll);
  find("options").addEventListener("submit", (event) => event.preventDefault());
  find("redo").addEventListener("click", () => { redo(chosen); choose(chosen); work(); });
  find("redo-all").addEventListener("click", () => { photos.forEach(redo); choose(chosen); work(); });
  find("save-all").addEventListener("click", async () => {
    for (const photo of photos.filter((each) => each.state === "done")) {
      const link = Object.assign(document.createElement("a"), { href: photo.result, download: photo.name });
      link.click();
      await pause(300); // browsers drop downloads that come at once
    }
  });
  find("key").value = sessionStorage.getItem("key") || "";
  find("key").addEventListener("change", () => {
    sessionStorage.setItem("key", find("key").value);
    begin();
  });
}

async function begin() {
  const say = (text) => { find("message").textContent = text; };
  try {
    const health = await (await ask("healthz")).json();
    const { models } = await (await ask("v1/models")).json();
    // By what was measured of both with the same runtime: arithmetic alone says too much.
    const times = (card) => {
      const [own, first] = [card.seconds_per_megapixel, models[0].seconds_per_megapixel];
      const setup = Object.keys(first).find((each) => each in own);
      return setup ? own[setup] / first[setup] : NaN;
    };
    const label = (card) => card.name + (times(card) > 1.25 ? `, about ${Number(times(card).toFixed(1))} × as long` : "");
    find("model").replaceChildren(...models.map((card) => new Option(label(card), card.name)));
    find("model-row").hidden = models.length < 2;
    limits = health;
    find("limits").textContent = `up to ${Math.round(limits.max_bytes / 1e6)} MB and ` +
      `${Math.round(limits.max_pixels / 1e6)} megapixels each`;
    say("");
    photos.filter((photo) => photo.state === "failed").forEach(redo);
    work();
  } catch (error) {
    const wrong = find("key").value ? "This is not the server's API key." : "This server asks for an API key.";
    say(error.status === 401 ? wrong : error.message);
  }
  drawAll();
}

listen();
begin();
