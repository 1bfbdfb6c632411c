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
  const [old, wanted] = [[...from.childNodes], [...to.childNodes]];
  wanted.forEach((node, at) => {
    if (at < old.length) morph(old[at], node);
    else from.append(node.cloneNode(true));
  });
  old.slice(wanted.length).forEach((node) => node.remove());
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
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of ["title", "main", "header", "link[rel=icon]"]) {
      const [from, to] = [document.querySelector(part), page.querySelector(part)];
      if (from && to) morph(from, to);
    }
  } catch {
    // The stream tells that nobody answers.
  } finally {
    fetching = false;
  }
  if (again) {
    again = false;
    refresh();
  }
}

function follow() {
  const stream = new EventSource("/api/v1/stream");
  let isLost = false;
  stream.addEventListener("open", () => {
    if (isLost) tell("");
    isLost = false;
    refresh();
  });
  stream.addEventListener("status", refresh);
  stream.addEventListener("event", refresh);
  stream.addEventListener("error", () => {
    isLost = true;
    tell("This failsoft does not answer; what is shown is old.", true);
    // A browser gives up for good after an answer that is none.
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
  });
}

const TOKEN = "failsoft-token";

// What an answer says, in words.
function words(answer, body) {
  if (!answer.ok) return [body.error || `status ${answer.status}`, ...(body.problems || [])].join(" — ");
  if (!body.changes) return "Done.";
  const lines = body.changes.map((it) => `${it.setting}: ${it.old} → ${it.new}`);
  const pending = (body.needs_restart || []).map((it) => `${it.setting} needs a restart`);
  return [...lines, ...pending].join(" — ") || "Done: nothing is different.";
}

async function give(button, token) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  try {
    const answer = await fetch(button.dataset.order, {
      method: "POST", headers, body: button.dataset.body || "",
    });
    const body = await answer.json();
    if (answer.ok) sessionStorage.setItem(TOKEN, token);
    else if (answer.status === 401 || answer.status === 403) sessionStorage.removeItem(TOKEN);
    tell(words(answer, body), !answer.ok);
  } catch {
    tell("This failsoft did not answer: whether the order was carried out is not known.", true);
  }
  refresh();
}

function ask(button) {
  const dialog = document.getElementById("order");
  const field = dialog.querySelector("[name=token]");
  const known = sessionStorage.getItem(TOKEN);
  document.getElementById("order-title").textContent = button.textContent;
  document.getElementById("order-words").textContent = button.dataset.words;
  document.getElementById("order-token").hidden = known !== null;
  field.value = "";
  // Enter does what the dialog is for, not the first of its buttons.
  dialog.onkeydown = (key) => {
    if (key.key !== "Enter" || key.target !== field) return;
    key.preventDefault();
    dialog.close("do");
  };
  dialog.onclose = () => {
    if (dialog.returnValue === "do") give(button, known ?? field.value);
    dialog.returnValue = "";
  };
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-order]");
  if (button) ask(button);
});

follow();
