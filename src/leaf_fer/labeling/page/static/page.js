// One face at a time. The server has the truth: an answer counts when the server has confirmed it,
// and only then does the next face come. What is shown next was fetched while people looked.
"use strict";

const $ = (id) => document.getElementById(id);
const random = crypto.getRandomValues(new Uint8Array(16));
const tab = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
const HEARTBEAT = 30000; // the server takes a tab for closed after 150 seconds
const KEYS = "1234567890";

let about = null; // classes, folder, goal
let queue = []; // faces of this tab: the one that is shown, then the next
let shown = null; // the face that is on the screen
let visible = false; // whether its picture is: nobody can judge what is not there
let broken = false; // its picture cannot be read
let busy = false; // an answer is on its way
let again = false; // skipped faces are shown again
let ended = false; // whether people have been told that no face is left
let progress = null;
let changes = 0; // answers and undos: what was asked before the last of them is out of date
let syncing = null; // one request for faces at a time
const pictures = new Map(); // face -> Image

async function call(what, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let reply;
  try {
    reply = await fetch(what, options);
  } catch {
    gone("leaf label does not answer", "Nothing is lost: what was saved is saved. " +
      "Start leaf label again and open the address that it prints. " +
      "If it is still running, this page goes on by itself.");
    throw new Error("no answer");
  }
  if (reply.status === 404 && !reply.headers.get("content-type")?.includes("json")) {
    gone("leaf label was started anew", "Nothing is lost. Open the address that it prints now.");
    throw new Error("started anew");
  }
  $("gone").hidden = true;
  const content = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    const problem = new Error(content.detail || `error ${reply.status}`);
    problem.status = reply.status;
    throw problem;
  }
  return content;
}

function gone(title, text) {
  $("gone-title").textContent = title;
  $("gone-text").textContent = text;
  $("gone").hidden = false;
}

function notice(text) {
  $("notice").textContent = text;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => ($("notice").textContent = ""), 2500);
}

// Ask for faces, keeping those that are here; again and again until nothing has changed meanwhile.
function sync() {
  syncing ??= (async () => {
    try {
      let asked;
      do {
        asked = changes;
        const want = queue.length ? queue.map((one) => one.face) : remembered();
        const reply = await call("offer", { tab, want, again });
        if (asked === changes && !busy) take(reply); // what is being answered asks again itself
      } while (asked !== changes);
    } finally {
      syncing = null;
    }
  })().catch(() => {});
  return syncing;
}

function take(reply) {
  const before = shown?.face;
  queue = reply.faces;
  tell(reply.progress);
  if (before !== undefined && before !== queue[0]?.face && queue.length) {
    notice("That face has been answered already");
  }
  show();
}

// After a reload the same face is shown, if nobody has taken it.
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem("faces") || "[]");
  } catch {
    return [];
  }
}

function show() {
  try {
    sessionStorage.setItem("faces", JSON.stringify(queue.map((one) => one.face)));
  } catch {} // a browser that keeps nothing
  for (const { face } of queue) {
    if (!pictures.has(face)) {
      const image = new Image();
      image.alt = "the face to label";
      image.draggable = false;
      image.src = `faces/${face}`;
      pictures.set(face, image);
    }
  }
  for (const face of pictures.keys()) {
    if (!queue.some((one) => one.face === face)) pictures.delete(face);
  }
  const next = queue[0];
  if (shown?.face !== next?.face) {
    visible = broken = false;
    $("picture").replaceChildren();
    $("hint").textContent = next ? "" : waiting();
    if (next) reveal(next.face);
  }
  shown = next ?? null;
  enable();
  if (next) ended = false;
  else if (progress && !progress.left && !ended) {
    ended = true;
    finished();
  }
}

async function reveal(face) {
  const image = pictures.get(face);
  try {
    await image.decode();
  } catch {
    if (shown?.face === face && pictures.get(face) === image) {
      broken = true;
      $("hint").textContent = "This picture cannot be read any more: skip it";
      enable();
    }
    return;
  }
  if (shown?.face !== face) return;
  // A small picture says more at a few times its size than all over the screen.
  image.style.maxWidth = image.style.maxHeight = `${Math.max(384, 6 * image.naturalWidth)}px`;
  $("picture").replaceChildren(image);
  visible = true;
}

function waiting() {
  if (!progress) return "Looking for the first face …";
  if (!progress.left) return "No face is left";
  return "Looking for the next face …";
}

// A button that cannot do anything for a moment is not disabled: it would lose the focus.
function enable() {
  for (const button of $("classes").children) button.disabled = !shown || broken;
  $("skip").disabled = $("reject").disabled = !shown;
  $("undo").disabled = !progress?.undo;
}

function tell(now) {
  progress = now;
  const more = now.left ? `${now.left.toLocaleString("en")} to go` : "none to go";
  $("totals").textContent = `${now.labeled.toLocaleString("en")} labeled · ${more}`;
  now.counts.forEach((count, place) => {
    const button = $("classes").children[place];
    const full = count >= about.goal;
    const of = document.createElement("span");
    of.className = "of";
    of.textContent = full ? " \u2713" : ` / ${about.goal}`;
    button.querySelector(".count").replaceChildren(String(count), of);
    button.querySelector(".bar").style.transform = `scaleX(${Math.min(1, count / about.goal)})`;
    button.classList.toggle("full", full);
    button.setAttribute("aria-label", `${about.classes[place]}, ${count} of ${about.goal}`);
  });
}

function flash(button) {
  button.classList.add("said");
  setTimeout(() => button.classList.remove("said"), 220);
}

async function answer(kind, choice, button) {
  if (busy || !shown || !(visible || (broken && kind !== "label"))) return;
  busy = true;
  flash(button);
  const { face, over } = shown;
  const drop = () => {
    changes += 1;
    queue = queue.filter((one) => one.face !== face);
  };
  try {
    const reply = await call("answer", { tab, face, over, kind, choice });
    drop();
    tell(reply.progress);
  } catch (problem) {
    if (problem.status === 409) {
      drop();
      notice("That face has been answered already");
    } else if (problem.status) {
      notice(`Not saved: ${problem.message}`);
    }
  }
  busy = false;
  show();
  sync();
}

async function undo() {
  if (busy || !progress?.undo) return;
  busy = true;
  flash($("undo"));
  try {
    const reply = await call("undo", { tab });
    changes += 1;
    tell(reply.progress);
    if (reply.face) {
      queue = [reply.face, ...queue.filter((one) => one.face !== reply.face.face)].slice(0, 2);
    }
    const names = { skip: "skip", reject: "not a face" };
    notice(reply.undone ? `Undone: ${names[reply.undone] ?? reply.undone}` : "Nothing to undo");
  } catch (problem) {
    if (problem.status) notice(`Not undone: ${problem.message}`);
  }
  busy = false;
  show();
  sync();
}

// The dialog that says what to do with the labels, whenever it is asked for and at the end.
function finished() {
  const ends = !progress.left;
  const { labeled, skipped, rejected } = progress;
  const faces = (n) => (n === 1 ? "1 face" : `${n.toLocaleString("en")} faces`);
  $("done-title").textContent = ends ? "All faces have an answer" : `${faces(labeled)} labeled so far`;
  const parts = [ends && `${faces(labeled)} labeled`, skipped && `${skipped} skipped`,
    rejected && `${rejected} not a face`, !ends && `${faces(progress.left)} to go`];
  $("done-text").textContent = parts.filter(Boolean).join(", ") + ". Every answer is saved.";
  $("again").hidden = !ends || !skipped;
  $("again").textContent = `Look again at ${faces(skipped)} that ${skipped === 1 ? "was" : "were"} skipped`;
  $("close").textContent = ends ? "Close" : "Go on labeling";
  $("write").disabled = !labeled;
  $("written").hidden = true;
  $("failed").textContent = "";
  if (!$("done").open) $("done").showModal();
  $(labeled ? "write" : "close").focus();
}

async function write() {
  try {
    const reply = await call("export", { tab });
    $("file").textContent = `${reply.count} labels in ${reply.file}`;
    $("train").textContent = reply.train;
    $("whole").textContent = reply.whole;
    $("rejects").hidden = !progress.rejected;
    $("written").hidden = false;
    $("failed").textContent = "";
  } catch (problem) {
    $("failed").textContent = problem.message;
  }
}

function build() {
  document.title = `${about.folder} · leaf label`;
  $("folder").textContent = about.folder;
  $("classes").classList.toggle("many", about.classes.length > 9);
  about.classes.forEach((name, place) => {
    const button = document.createElement("button");
    button.type = "button";
    for (const kind of ["bar", "kbd", "name", "count"]) {
      const part = document.createElement(kind === "kbd" ? "kbd" : "span");
      if (kind !== "kbd") part.className = kind;
      if (kind === "kbd") part.textContent = KEYS[place] ?? "";
      if (kind === "kbd" && !KEYS[place]) part.style.visibility = "hidden";
      if (kind === "name") part.textContent = name;
      button.append(part);
    }
    press(button, () => answer("label", place, button));
    $("classes").append(button);
  });
  press($("skip"), () => answer("skip", null, $("skip")));
  press($("reject"), () => answer("reject", null, $("reject")));
  press($("undo"), undo);
  press($("use"), finished);
  press($("write"), write);
  press($("close"), () => $("done").close());
  press($("again"), () => {
    again = true;
    $("done").close();
    sync();
  });
}

// A button that was clicked gives the focus back: Space must not name the next face, too.
function press(button, action) {
  button.addEventListener("click", (event) => {
    if (event.detail) button.blur();
    action();
  });
}

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !about) return;
  if ($("done").open || !$("gone").hidden) return;
  const key = event.key.toLowerCase();
  const place = KEYS.indexOf(key);
  const button = key.length === 1 && place >= 0 ? $("classes").children[place] : null;
  if (button) answer("label", place, button);
  else if (key === "s") answer("skip", null, $("skip"));
  else if (key === "x") answer("reject", null, $("reject"));
  else if (key === "u") undo();
  else if (key === "e") finished();
  else return;
  event.preventDefault();
});

addEventListener("pagehide", () => {
  navigator.sendBeacon("leave", new Blob([JSON.stringify({ tab })], { type: "application/json" }));
});
addEventListener("pageshow", (event) => event.persisted && sync());
addEventListener("online", sync);
document.addEventListener("visibilitychange", () => document.hidden || sync());
setInterval(sync, HEARTBEAT);
setInterval(() => $("gone").hidden || sync(), 2000);

(async function begin() {
  while (!about) {
    try {
      about = await call("about");
    } catch {
      await new Promise((wake) => setTimeout(wake, 2000));
    }
  }
  build();
  await sync();
})();
