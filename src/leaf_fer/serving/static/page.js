// One photo at a time: shown from the file as it is here, while the server looks at it.
"use strict";

const $ = (id) => document.getElementById(id);
const TYPE = "application/octet-stream"; // the server looks at the content, whatever a name says

let model = null; // classes, limits
let turn = 0; // what is said about an earlier photo comes too late
let picture = null; // ImageBitmap, or null where this browser cannot show the file
let faces = [];
let lit = -1; // the face that is pointed at

async function begin() {
  const reply = await fetch("model");
  model = await reply.json();
  $("name").textContent = model.name;
  document.title = `${model.name} · leaf serve`;
  $("about").textContent = `${model.classes.length} expressions`;
  if (model.detector === "none") say("The whole photo is taken as one face: cut it out first.");
}

function say(text, failed = false) {
  $("notice").textContent = text;
  $("notice").classList.toggle("failed", failed);
}

async function take(file) {
  if (!file) return;
  const mine = ++turn;
  clear();
  $("drop").classList.add("quiet");
  $("other").hidden = false;
  $("answers").setAttribute("aria-busy", "true");
  say("Looking …");
  try {
    const shown = show(file, mine);
    const found = await ask(file);
    await shown;
    if (mine === turn) tell(found);
  } catch (error) {
    if (mine === turn) say(error.message, true);
  } finally {
    if (mine === turn) $("answers").setAttribute("aria-busy", "false");
  }
}

async function show(file, mine) {
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    // a format that the server may know all the same
  }
  if (mine !== turn) return;
  picture = bitmap;
  $("photo").hidden = !bitmap;
  $("name-of-file").hidden = Boolean(bitmap);
  $("name-of-file").textContent = file.name || "the photo";
  draw();
}

async function ask(file) {
  if (model && file.size > model.max_bytes) {
    throw new Error(`This file has ${megabytes(file.size)}; at most ${megabytes(model.max_bytes)} are taken.`);
  }
  let reply;
  try {
    reply = await fetch("predict", { method: "POST", headers: { "Content-Type": TYPE }, body: file });
  } catch {
    throw new Error("The server does not answer. Is leaf serve still running?");
  }
  const content = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(sentence(content.detail || `error ${reply.status}`));
  return content;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
const percent = (share) => `${Math.round(100 * share)} %`;

function tell(found) {
  faces = found.faces;
  const count = faces.length;
  if (!count) say("No face was found.");
  else if (!faces[0].box) say("");
  else say(count === 1 ? "One face, and how likely each expression is:" : `${count} faces, and how likely each expression is:`);
  $("faces").replaceChildren(...faces.map(item));
  draw();
}

function make(tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function item(face, place) {
  const made = make("li", "");
  const title = make("h2", "");
  if (face.box) title.append(make("span", "number", place + 1));
  title.append(make("span", "label", face.label), make("span", "sure", percent(face.confidence)));
  made.append(title);
  if (face.candidates) {
    const often = percent(model?.coverage ?? 0);
    made.append(make("p", "candidates", `One of these, ${often} of the time: ${face.candidates.join(", ")}`));
  }
  const scores = make("ul", "scores");
  for (const [name, share] of Object.entries(face.scores)) {
    const row = make("li", "");
    const bar = make("span", "bar");
    bar.style.transform = `scaleX(${share})`;
    row.append(bar, make("span", "name", name), make("span", "share", percent(share)));
    scores.append(row);
  }
  made.append(scores);
  made.addEventListener("pointerenter", () => light(place));
  made.addEventListener("pointerleave", () => light(-1));
  return made;
}

function light(place) {
  lit = place;
  [...$("faces").children].forEach((one, number) => one.classList.toggle("lit", number === place));
  draw();
}

function draw() {
  if (!picture) return;
  const canvas = $("photo");
  const room = $("stage").getBoundingClientRect();
  const unit = devicePixelRatio; // boxes and numbers are as sharp as the screen
  const scale = unit * Math.min(room.width / picture.width, room.height / picture.height);
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const style = getComputedStyle(document.documentElement);
  const [ink, paper] = ["--leaf", "--on-leaf"].map((name) => style.getPropertyValue(name));
  pen.font = `600 ${15 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  faces.forEach((face, place) => {
    if (!face.box) return;
    const [left, top, right, bottom] = face.box.map((side) => side * scale);
    pen.strokeStyle = ink;
    pen.lineWidth = (place === lit ? 5 : 2.5) * unit;
    pen.globalAlpha = lit < 0 || place === lit ? 1 : 0.4;
    pen.beginPath();
    pen.roundRect(left, top, right - left, bottom - top, 6 * unit);
    pen.stroke();
    const width = pen.measureText(place + 1).width + 12 * unit;
    const x = Math.min(Math.max(left, 0), canvas.width - width);
    const y = Math.max(top - 22 * unit, 0);
    pen.fillStyle = ink;
    pen.beginPath();
    pen.roundRect(x, y, width, 22 * unit, 6 * unit);
    pen.fill();
    pen.fillStyle = paper;
    pen.fillText(place + 1, x + 6 * unit, y + 11.5 * unit);
  });
  pen.globalAlpha = 1;
}

function clear() {
  picture?.close();
  picture = null;
  faces = [];
  lit = -1;
  $("faces").replaceChildren();
  $("photo").hidden = true;
  $("name-of-file").hidden = true;
}

let depth = 0; // of elements that a file is dragged over
addEventListener("dragenter", (event) => {
  event.preventDefault();
  depth += 1;
  document.body.classList.add("over");
});
addEventListener("dragleave", () => {
  depth -= 1;
  document.body.classList.toggle("over", depth > 0);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => take(event.clipboardData.files[0]));
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = ""; // the same file may be chosen again
});
$("other").addEventListener("click", () => $("file").click());
begin().catch(() => say("The server does not answer. Is leaf serve still running?", true));
