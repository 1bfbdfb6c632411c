"use strict";

// Makes `from` what `to` is, and leaves what is the same alone: focus, selection and what was opened stay.
function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(to.cloneNode(true));
    return;
  }
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  const wanted = [...to.childNodes];
  const keyed = [...to.children];
  if (keyed.length > 0 && keyed.every((node) => node.dataset.key)) {
    arrange(from, keyed);
    return;
  }
  const old = [...from.childNodes];
  wanted.forEach((node, at) => {
    if (at < old.length) morph(old[at], node);
    else from.append(node.cloneNode(true));
  });
  old.slice(wanted.length).forEach((node) => node.remove());
}

// The same for a list whose entries say which they are: each keeps its element, wherever it comes to stand.
function arrange(from, wanted) {
  const known = new Map([...from.children].map((node) => [node.dataset.key, node]));
  let at = from.firstElementChild;
  for (const node of wanted) {
    const old = known.get(node.dataset.key);
    known.delete(node.dataset.key);
    if (!old) {
      from.insertBefore(node.cloneNode(true), at);
      continue;
    }
    morph(old, node);
    if (old === at) at = at.nextElementSibling;
    else from.insertBefore(old, at);
  }
  known.forEach((node) => node.remove());
}

function tell(text, isBad) {
  const told = document.getElementById("told");
  told.textContent = text;
  told.classList.toggle("bad", Boolean(isBad));
}

let fetching = false;
let again = false;

// Asks for this page again, and puts in what is different. One request at a time.
async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const options = { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10000) };
    const answer = await fetch(location.href, options);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of ["title", "main", "header", "link[rel=icon]"]) {
      const [from, to] = [document.querySelector(part), page.querySelector(part)];
      if (from && to) morph(from, to);
    }
    hear();
  } catch {
    // That nothing is heard is told in time.
  } finally {
    fetching = false;
  }
  if (again) {
    again = false;
    refresh();
  }
}

let heard = Date.now();
let isSilent = false;

// failsoft answered, or told something.
function hear() {
  heard = Date.now();
  if (isSilent) tell("");
  isSilent = false;
}

// A network that is cut says nothing: what is shown may be old.
setInterval(() => {
  if (document.hidden || Date.now() - heard < 8000) return;
  isSilent = true;
  const since = new Date(heard).toISOString().slice(11, 19);
  tell(`Nothing was heard of this failsoft since ${since} UTC; what is shown is old.`, true);
}, 1000);

let stream = null;

// A tab that nobody looks at follows nothing: browsers allow few connections to one host.
function follow() {
  if (document.hidden || stream) return;
  stream = new EventSource("/api/v1/stream");
  stream.addEventListener("open", refresh);
  stream.addEventListener("status", refresh);
  stream.addEventListener("event", refresh);
  stream.addEventListener("tick", hear);
  stream.addEventListener("error", () => {
    refresh();
    // A browser gives up for good after an answer that is none.
    if (stream && stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(follow, 3000);
    }
  });
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    heard = Date.now();
    follow();
  } else if (stream) {
    stream.close();
    stream = null;
  }
});

const TOKEN = "failsoft-token";

// What an answer says, in words.
function words(answer, body) {
  if (!answer.ok) return [body.error || `status ${answer.status}`, ...(body.problems || [])].join(" — ");
  if (!body.changes) return "Done.";
  const lines = body.changes.map((it) => `${it.setting}: ${it.old} → ${it.new}`);
  const pending = (body.needs_restart || []).map((it) => `${it.setting} needs a restart`);
  return [...lines, ...pending].join(" — ") || "Done: nothing is different.";
}

async function give({ order, body }, token) {
  tell("Ordered; waiting for the answer.");
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  try {
    const answer = await fetch(order, { method: "POST", headers, body });
    const said = await answer.json();
    if (answer.ok) sessionStorage.setItem(TOKEN, token);
    else if (answer.status === 401 || answer.status === 403) sessionStorage.removeItem(TOKEN);
    tell(words(answer, said), !answer.ok);
  } catch {
    tell("This failsoft did not answer: whether the order was carried out is not known.", true);
  }
  refresh();
}

// What is asked is what was shown when the button was pressed, whatever the page shows by then.
function ask(button) {
  const { order, body = "", words: question } = button.dataset;
  const dialog = document.getElementById("order");
  const field = dialog.querySelector("[name=token]");
  const known = sessionStorage.getItem(TOKEN);
  document.getElementById("order-title").textContent = button.textContent;
  document.getElementById("order-words").textContent = question;
  document.getElementById("order-token").hidden = known !== null;
  field.value = "";
  // Enter does what the dialog is for, not the first of its buttons.
  dialog.onkeydown = (key) => {
    if (key.key !== "Enter" || key.target !== field) return;
    key.preventDefault();
    dialog.close("do");
  };
  dialog.onclose = () => {
    if (dialog.returnValue === "do") give({ order, body }, known ?? field.value);
    dialog.returnValue = "";
  };
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-order]");
  if (button) ask(button);
});

follow();
