import { Queue, newUid, post } from "/static/queue.js";
import { curve, drawn, element } from "/static/item.js";

const $ = (id) => document.getElementById(id);
const KEYS = [..."1234567890", ..."qwetyopadfghjklzxcvbm"]; // S, U, N, R and I do other things
const MANY = 12; // classes from which on a search helps

let state = null;
let current = null; // the item on the screen
let correcting = false; // an earlier answer, chosen in the review
let chosen = new Set(); // with several classes an item
let ahead = [];
let lastDrawnClasses = "";
let message = "";
let online = true;
let fetching = false;
let given = new Map(); // items answered here whose answer may have to be taken back

const queue = new Queue({
  changed: drawSaved,
  saved(answer, result) {
    online = true;
    const card = result.card;
    if (answer.action === "note") say("Note saved.");
    else if (card && card.status === "conflict") say(`Saved. Somebody else answered ${shortName(card)} differently: settle it.`);
    else if (card && state && !state.suggest && card.suggestion) say(`Saved. The suggestion was ${names(card.suggestion)}.`);
    else say("Saved.");
  },
  refused(answer, words) {
    say(words);
    refill();
  },
});

// ------------------------------------------------------------------------------------------------------- words

function names(classes) {
  return classes.length ? classes.map((c) => state.classes[c] ?? `class ${c}`).join(", ") : "none";
}

function said(labels) {
  return labels.map((label) => (label.skip ? "cannot tell" : names(label.classes)));
}

function shortName(card) {
  const words = card.text || card.id;
  return words.length > 40 ? `${words.slice(0, 39)}…` : words;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function say(words) {
  message = words;
  drawSaved();
}

function drawSaved() {
  const waiting = queue.size;
  $("saved").classList.toggle("waiting", waiting > 0 || !online);
  if (queue.locked) $("saved").textContent = `${waiting} kept here: open the address that was printed last, with its token.`;
  else if (waiting > 0 && !online) $("saved").textContent = `No connection: ${waiting} kept on this device, sent when it is back.`;
  else if (waiting > 0) $("saved").textContent = "Saving…";
  else if (!online) $("saved").textContent = "No connection. Nothing is waiting to be sent.";
  else $("saved").textContent = message;
}

function stageWords(progress) {
  if (!progress) return "";
  const of = progress.max_rounds === null ? "" : ` of ${progress.max_rounds}`;
  if (progress.stage !== "ended" && progress.alive === false) {
    return "The training is not running. Answers are kept, and it takes them when it is started again.";
  }
  const share = progress.fraction === null || progress.fraction === undefined ? "" : `, ${percent(progress.fraction)}`;
  return (
    {
      training: `Training round ${progress.round}${of}${share}`,
      choosing: `Round ${progress.round}${of} has trained; the next items are being chosen`,
      waiting: `Round ${progress.round}${of} has trained and waits for labels`,
      ended: `The run has ended${progress.reason ? `: ${progress.reason}` : ""}`,
    }[progress.stage] ?? ""
  );
}

// ------------------------------------------------------------------------------------------------------ drawing

function drawState() {
  document.title = `${state.counts.open} to go · ${state.title}`;
  $("title").textContent = state.title;
  $("title").title = state.title;
  const total = Object.values(state.counts).reduce((sum, count) => sum + count, 0);
  const done = state.counts.labelled + state.counts.skipped;
  const skipped = state.counts.skipped ? `, ${state.counts.skipped} skipped` : "";
  $("counts").textContent = `${state.counts.labelled} labelled${skipped}, ${state.counts.open} to go`;
  $("bar").value = total ? done / total : 0;
  $("undo").disabled = !state.can_undo && queue.size === 0;
  const conflicts = state.counts.conflict;
  $("conflicts").hidden = conflicts === 0;
  $("conflicts").firstElementChild.textContent =
    conflicts === 1 ? "One item has two different answers." : `${conflicts} items have different answers.`;
  $("stage-words").textContent = stageWords(state.progress);
  drawCurve(state.progress?.curve ?? []);
  drawClasses();
  drawRest();
}

function drawCurve(points) {
  const common = Object.keys(points.at(-1)?.metrics ?? {}).filter((name) => points.every((point) => name in point.metrics));
  const order = [/acc|f1|auroc|map$/i, /^test/i, /^val/i];
  const rank = (name) => order.reduce((sum, rule, place) => sum + (rule.test(name) ? 4 >> place : 0), 0);
  const name = common.sort((a, b) => rank(b) - rank(a))[0];
  $("curve").hidden = points.length < 2 || name === undefined;
  if ($("curve").hidden) return;
  const value = points.at(-1).metrics[name];
  $("curve").replaceChildren(
    element("span", {}, `${name} ${value.toFixed(3)} at ${points.at(-1).n} labels`),
    curve(points, name),
  );
}

function drawClasses() {
  const many = state.classes.length > MANY;
  $("search").hidden = !many;
  const words = $("search").value.trim().toLowerCase();
  const suggested = current?.suggestion ?? [];
  const signature = JSON.stringify([state.classes, words, suggested, [...chosen], state.addable, state.multilabel, current?.key]);
  if (signature === lastDrawnClasses) return;
  lastDrawnClasses = signature;
  const focused = document.activeElement?.dataset?.place;
  const shown = state.classes.map((name, place) => ({ name, place })).filter(({ name }) => name.toLowerCase().includes(words));
  shown.sort((a, b) => (words ? rankOf(a.name, words) - rankOf(b.name, words) || a.place - b.place : a.place - b.place));
  const keys = keysOf(state.classes);
  const buttons = shown.map(({ name, place }) => {
    const key = keys[place];
    const button = element(
      "button",
      { type: "button", onclick: () => choose(place) },
      element("span", { dir: "auto" }, name),
      key === undefined ? null : element("kbd", { "aria-hidden": "true" }, key.toUpperCase()),
    );
    button.dataset.place = place;
    if (key !== undefined) button.setAttribute("aria-keyshortcuts", key);
    if (suggested.includes(place)) {
      button.classList.add("suggested");
      button.setAttribute("aria-description", "suggested");
    }
    button.setAttribute("aria-pressed", String(chosen.has(place)));
    button.disabled = current === null;
    return button;
  });
  const exact = shown.some(({ name }) => name.toLowerCase() === words);
  const wanted = $("search").value.trim();
  if (!many || (words && !exact)) {
    const label = wanted && many ? `Add “${wanted}”` : "Add a class…";
    buttons.push(element("button", { type: "button", class: "add", onclick: () => addClass(many ? wanted : "") }, element("span", {}, label)));
  }
  $("classes").replaceChildren(...buttons);
  if (focused !== undefined) $("classes").querySelector(`[data-place="${focused}"]`)?.focus();
  $("save").hidden = !state.multilabel;
  $("save").disabled = current === null;
  $("save").firstChild.textContent = chosen.size ? `Save: ${names([...chosen].sort((a, b) => a - b))} ` : "Save: none applies ";
  $("skip").disabled = current === null;
  $("note-button").disabled = current === null;
}

function keysOf(classes) {
  // A class that is called 3 is under 3, whatever its place; the others get what is left.
  const own = classes.map((name) => (KEYS.includes(name.toLowerCase()) ? name.toLowerCase() : null));
  const rest = KEYS.filter((key) => !own.includes(key));
  return own.map((key, place) => (key !== null && own.indexOf(key) === place ? key : rest.shift()));
}

function rankOf(name, words) {
  const lower = name.toLowerCase();
  return lower === words ? 0 : lower.startsWith(words) ? 1 : 2;
}

function drawRest() {
  $("rest").hidden = current !== null;
  if (current !== null) return;
  const stage = state.progress?.stage;
  let title = "Nothing to label now";
  let words = "New items appear here by themselves.";
  if (state.counts.open > 0 && fetching) [title, words] = ["", ""];
  else if (state.counts.open > 0) words = `Others have the last ${state.counts.open} before them. They come back if nobody answers.`;
  else if (stage === "ended") [title, words] = ["Done", "The run has ended. Earlier answers can still be reviewed."];
  else if (stage) [title, words] = ["All asked items are answered", `${stageWords(state.progress)}. The next ones appear here by themselves.`];
  else if (Object.values(state.counts).some(Boolean)) [title, words] = ["Done", "All items have an answer."];
  $("rest").children[0].textContent = title;
  $("rest").children[1].textContent = words;
}

function show(card, asCorrection = false) {
  current = card;
  correcting = asCorrection;
  chosen = new Set(state?.multilabel ? (card?.mine?.classes ?? card?.labels?.[0]?.classes ?? []) : []);
  $("search").value = "";
  $("item").replaceChildren(...(card ? drawn(card, `/media/${card.key}/item`) : []));
  $("item").setAttribute("aria-label", card ? `Item ${card.id}` : "");
  $("why").textContent = card?.why ?? "";
  const suggestion = card?.suggestion;
  $("suggestion").hidden = !suggestion;
  if (suggestion) {
    const sure = card.confidence === null || card.confidence === undefined ? "" : ` (${percent(card.confidence)} sure)`;
    $("suggestion").replaceChildren(
      `Suggestion: ${names(suggestion)}${sure} `,
      element("button", { type: "button", onclick: takeSuggestion }, "Take it ", element("kbd", {}, state.multilabel ? "I" : "Enter")),
    );
  }
  $("standing").hidden = !card || card.labels.length === 0;
  if (card?.labels.length) {
    const words = said(card.labels);
    $("standing").textContent =
      card.status === "conflict" ? `People said different things: ${words.join(" / ")}. Your answer settles it.` : `Now: ${words[0]}`;
  }
  $("note").value = card?.note ?? "";
  $("note").hidden = !card?.note;
  $("note-button").setAttribute("aria-expanded", String(!$("note").hidden));
  $("correcting").hidden = !asCorrection;
  if (asCorrection) $("correcting").firstElementChild.textContent = `Correcting ${shortName(card)}.`;
  drawExamples(card);
  if (state) {
    drawClasses();
    drawRest();
  }
  if (card) $("item").focus({ preventScroll: true });
}

function drawExamples(card) {
  const examples = card?.examples ?? [];
  $("examples").hidden = examples.length === 0;
  $("examples").lastElementChild.replaceChildren(
    ...examples.map((example, place) =>
      element(
        "div",
        {},
        ...drawn({ ...example, alt: `${example.alt}, labelled ${names(example.classes)}` }, `/media/${card.key}/${place}`),
        element("p", { class: "tag" }, names(example.classes)),
      ),
    ),
  );
}

// ------------------------------------------------------------------------------------------------------ items

function aheadWanted() {
  // So many items are fetched beforehand that a lost connection stops nobody at once, and that others get some, too.
  return state !== null && state.counts.open >= 10 ? 2 : 1;
}

async function refill() {
  if (fetching) return;
  fetching = true;
  try {
    while (ahead.length < aheadWanted() + (current === null ? 1 : 0)) {
      const avoid = [...queue.points(), ...ahead.map((card) => card.key), ...(current ? [current.key] : [])];
      const { status, given: found } = await post("/api/next", { avoid });
      if (status !== 200 || !found.card) break;
      ahead.push(found.card);
      if (found.card.kind === "image" && found.card.has_media) new Image().src = `/media/${found.card.key}/item`;
    }
    online = true;
  } catch {
    online = false;
  } finally {
    fetching = false;
  }
  if (current === null && ahead.length > 0) show(ahead.shift());
  if (state) drawRest();
  drawSaved();
}

function advance() {
  show(ahead.shift() ?? null);
  refill();
}

function submit(action, label) {
  if (current === null) return;
  const answer = { uid: newUid(), key: current.key, action, base: current.version };
  if (action === "label") answer.label = label;
  const note = $("note").value.trim();
  if (note !== (current.note ?? "")) answer.note = note;
  given.set(answer.uid, current);
  if (given.size > 50) given.delete(given.keys().next().value);
  queue.push(answer);
  $("undo").disabled = false;
  advance();
}

function choose(place) {
  if (current === null) return;
  if (!state.multilabel) {
    submit("label", [place]);
    return;
  }
  if (chosen.has(place)) chosen.delete(place);
  else chosen.add(place);
  drawClasses();
}

function takeSuggestion() {
  if (!current?.suggestion) return;
  if (!state.multilabel) submit("label", current.suggestion);
  else {
    chosen = new Set(current.suggestion);
    drawClasses();
  }
}

function save() {
  submit("label", [...chosen].sort((a, b) => a - b));
}

async function undo() {
  const unsent = queue.takeBack();
  if (unsent !== null) {
    const card = given.get(unsent.uid);
    if (card) {
      if (current && !correcting) ahead.unshift(current);
      show(card);
    }
    say("Taken back.");
    return;
  }
  try {
    await queue.flush(true);
    const { status, given: result } = await post("/api/undo", { uid: newUid() });
    if (status === 200 && result.card) {
      if (current && !correcting && current.key !== result.card.key) ahead.unshift(current);
      ahead = ahead.filter((card) => card.key !== result.card.key);
      show(result.card);
      say("Taken back.");
    } else if (result.error) say(result.error);
  } catch {
    online = false;
    drawSaved();
  }
}

async function addClass(name) {
  if (!state.addable) {
    say(state.reason || "No class can be added here.");
    return;
  }
  const wanted = name || window.prompt("Name of the new class") || "";
  if (!wanted.trim()) return;
  try {
    const { status, given: result } = await post("/api/class", { uid: newUid(), name: wanted });
    if (status === 200) {
      state.classes = result.classes;
      $("search").value = "";
      say(`Class ${wanted.trim()} added.`);
    } else say(result.error ?? "It could not be added.");
  } catch {
    online = false;
  }
  drawClasses();
  drawSaved();
}

// ----------------------------------------------------------------------------------------------------- review

let listStatus = "labelled";

async function review(status = "labelled", start = 0) {
  listStatus = status;
  if (!$("review").open) $("review").showModal();
  const tabs = { labelled: "Labelled", skipped: "Skipped", conflict: "In conflict" };
  $("tabs").replaceChildren(
    ...Object.entries(tabs).map(([name, words]) => {
      const tab = element("button", { type: "button", role: "tab", onclick: () => review(name) }, `${words} ${state.counts[name]}`);
      tab.setAttribute("aria-selected", String(name === status));
      return tab;
    }),
  );
  let found;
  try {
    const response = await fetch(`/api/list?status=${status}&start=${start}`);
    found = await response.json();
  } catch {
    found = { points: [], total: 0, start };
  }
  const rows = found.points.map((point) =>
    element(
      "li",
      {},
      element(
        "button",
        { type: "button", onclick: () => correct(point.key) },
        point.kind === "image" && point.has_media
          ? element("img", { alt: "", loading: "lazy", src: `/media/${point.key}/thumb` })
          : element("span", {}, point.kind),
        element("span", { class: "text", dir: "auto" }, point.kind === "image" ? point.id : point.text),
        element("span", { class: "tag" }, said(point.labels).join(" / ") + (point.note ? " · note" : "")),
      ),
    ),
  );
  if (start === 0) $("list").replaceChildren(...rows);
  else $("list").append(...rows);
  if (start === 0 && rows.length === 0) $("list").append(element("li", { class: "caption" }, "Nothing here."));
  const next = start + found.points.length;
  $("more").hidden = next >= found.total || rows.length === 0;
  $("more").onclick = () => review(status, next);
}

async function correct(key) {
  try {
    const response = await fetch(`/api/point/${key}`);
    const { card } = await response.json();
    if (!card) return;
    $("review").close();
    if (current && !correcting && current.key !== key) ahead.unshift(current);
    show(card, true);
  } catch {
    online = false;
    drawSaved();
  }
}

function leaveCorrection() {
  if (correcting) advance();
}

// ------------------------------------------------------------------------------------------------------- keys

function typing(target) {
  return target instanceof HTMLElement && (target.tagName === "TEXTAREA" || (target.tagName === "INPUT" && target.type === "search"));
}

document.addEventListener("keydown", (event) => {
  if (state === null || $("review").open || $("help").open) return;
  if (typing(event.target)) {
    if (event.key === "Escape") {
      event.preventDefault();
      if (event.target === $("search")) {
        $("search").value = "";
        drawClasses();
      }
      event.target.blur();
      $("item").focus({ preventScroll: true });
    } else if (event.key === "Enter" && event.target === $("search")) {
      event.preventDefault();
      $("classes").querySelector("button")?.click();
      $("search").value = "";
      if (state.multilabel) drawClasses();
    }
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  const actions = {
    s: () => submit("skip"),
    i: takeSuggestion,
    u: undo,
    n: openNote,
    r: () => review(),
    "/": () => ($("search").hidden ? undefined : $("search").focus()),
    "?": () => $("help").showModal(),
    escape: leaveCorrection,
    " ": play,
  };
  if (key === " " && (event.target instanceof HTMLButtonElement || event.target instanceof HTMLMediaElement)) return; // theirs
  if (key === "enter") {
    if (event.target instanceof HTMLButtonElement) return; // the button does what it says
    event.preventDefault();
    if (state.multilabel) save();
    else takeSuggestion();
  } else if (key in actions) {
    event.preventDefault();
    actions[key]();
  } else {
    const place = keysOf(state.classes).indexOf(key);
    if (place >= 0) {
      event.preventDefault();
      choose(place);
    }
  }
});

function play() {
  const audio = $("item").querySelector("audio");
  if (audio === null) return;
  if (audio.paused) audio.play().catch(() => {}); // a file that is gone: the player says so
  else audio.pause();
}

function openNote() {
  $("note").hidden = false;
  $("note-button").setAttribute("aria-expanded", "true");
  $("note").focus();
}

$("search").addEventListener("input", drawClasses);
$("skip").addEventListener("click", () => submit("skip"));
$("undo").addEventListener("click", undo);
$("save").addEventListener("click", save);
$("note-button").addEventListener("click", openNote);
$("review-button").addEventListener("click", () => review());
$("review-close").addEventListener("click", () => $("review").close());
$("help-button").addEventListener("click", () => $("help").showModal());
$("settle").addEventListener("click", () => review("conflict"));
$("back").addEventListener("click", leaveCorrection);

// ------------------------------------------------------------------------------------------------------- news

function listen() {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => {
    const before = state;
    state = JSON.parse(event.data);
    online = true;
    drawState();
    drawSaved();
    if (queue.size > 0) queue.flush(true);
    if (current && !before) show(current, correcting); // names of classes are known now
    if (ahead.length < aheadWanted() && state.counts.open > 0) refill();
    if ($("review").open && before && before.counts[listStatus] !== state.counts[listStatus]) review(listStatus);
  };
  source.onerror = () => {
    online = false;
    drawSaved();
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

setInterval(() => {
  for (const card of [current, ...ahead]) if (card) post("/api/keep", { key: card.key }).catch(() => {});
  if (state && current === null && state.counts.open > 0) refill();
}, 30000);
window.addEventListener("pagehide", () => queue.flush(true));

fetch("/api/state")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(response.status))))
  .then((found) => {
    state = found;
    drawState();
    return refill();
  })
  .catch(() => {
    online = false;
    drawSaved();
  })
  .finally(() => {
    listen();
    if (queue.size > 0) queue.flush(true);
  });
