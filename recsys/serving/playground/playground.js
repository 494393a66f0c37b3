// The page: what happens when a button is pressed, and what an answer says in words.

import { call, setKey } from "./api.js";
import { $, element } from "./elements.js";
import { movesBetween, movesInWords, ranksOf, sameItems } from "./moves.js";
import { rankedList } from "./ranked_list.js";
import {
  addNew, forWhom, otherExamples, readRequest, setExamples, showFound, showWho, withClick, writesHistory,
} from "./request.js";
import { fetchTitles, learnStored, learnWritten, titleOf } from "./titles.js";

const NAMES = { champion: "Champion", challenger: "Challenger" };
const KEYS_ARE_ASKED = new Set([401, 403]);
const WITHOUT_MODEL = new Set(["popularity", "caller_order"]);
const SLOW = 500; // milliseconds after which the page says that it waits
const open = new Set(); // explanations that stay open when the list changes
let hasChallenger = false;
let shown = null; // the latest request and its answers, by variant
let busy = false;

const quoted = (id) => titleOf(id) || id;

/** Do some work, one at a time; its failure is said in words. */
async function guarded(work) {
  if (busy) return;
  busy = true;
  $("answer").setAttribute("aria-busy", "true");
  $("problem").hidden = true;
  const waiting = setTimeout(() => { $("waiting").textContent = "Waiting for the server …"; }, SLOW);
  try {
    await work();
  } catch (error) {
    showProblem(error);
  } finally {
    busy = false;
    clearTimeout(waiting);
    $("waiting").textContent = "";
    $("answer").setAttribute("aria-busy", "false");
  }
}

function showProblem(error) {
  $("problem").textContent = error.place ? `${error.place}: ${error.message}` : error.message;
  $("problem").hidden = false;
  if (KEYS_ARE_ASKED.has(error.status)) {
    $("access").hidden = false;
    $("key").focus();
  }
  $("problem").scrollIntoView({ block: "nearest" });
}

async function start() {
  const versions = readVersions();
  const { content } = await call("v1/examples");
  learnStored(content.items);
  setExamples(content);
  await versions;
  await rank(readRequest());
}

/** Which versions answer; a server that is not ready may rank all the same, on a lower rung. */
async function readVersions() {
  let ready, said;
  try {
    ready = (await call("health/ready")).content;
    said = [`Champion ${versionsOf(ready.model)}`];
    if (ready.challenger) said.push(`challenger ${versionsOf(ready.challenger)}`);
    for (const refused of [ready.refused, ready.refused_challenger].filter(Boolean)) {
      said.push(`refused ${refused.version}: ${refused.reason}`);
    }
  } catch (error) {
    [ready, said] = [{}, [error.message]];
  }
  hasChallenger = Boolean(ready.challenger);
  $("compare-field").hidden = !hasChallenger;
  $("versions").textContent = said.join(" · ");
}

function versionsOf({ model, ranker, encoder }) {
  if (model) return versionsOf(model);
  return encoder ? `${ranker} with ${encoder}` : ranker;
}

/** Rank a request and show the order. click: the item that was clicked before, and warnings about its event. */
async function rank(request, click = { item: null, warnings: [] }) {
  const variants = hasChallenger && $("compare").checked ? ["champion", "challenger"] : [null];
  const answers = new Map();
  let failure = null;
  for (const variant of variants) {
    const body = variant === null ? request.body : { ...request.body, variant };
    try {
      answers.set(variant, await call("v1/rank", body, request.headers));
    } catch (error) {
      error.place = [NAMES[variant], error.field && request.place(error.field)].filter(Boolean).join(", ");
      failure = error;
      break;
    }
  }
  if (answers.size) await show(request, answers, click);
  if (failure) throw failure;
}

async function show(request, answers, click) {
  const every = [...answers.values()].map((answer) => answer.content);
  learnWritten([...(request.body.history || []), ...request.body.candidates]);
  const near = every.flatMap(({ items }) => items.flatMap((item) => item.because || []));
  await fetchTitles([...every.flatMap(({ items }) => items), ...near].map((one) => one.item_id)).catch(() => {});
  const before = shown;
  shown = { request, answers };
  const focused = whereFocusIs();
  $("lists").replaceChildren(...[...answers].map(([variant, answer]) => rankedList({
    heading: NAMES[variant] || "",
    answer,
    before: placesBefore(before, variant, answer),
    other: placesBeside(answers, variant),
    clicked: click.item,
    titleOf,
    onClick: (item) => guarded(() => clicked(item)),
    open,
  })));
  $("lists").classList.toggle("two", answers.size > 1);
  showNotes(request, every, click);
  $("summary").textContent = summary(before, click);
  giveFocusBack(focused);
}

/** Rank and score of each item in the answer before, null where that had other items. */
function placesBefore(before, variant, answer) {
  const old = before && before.answers.get(variant);
  if (!old || !sameItems(ranksOf(old.content.items), ranksOf(answer.content.items))) return null;
  return new Map(old.content.items.map((item) => [item.item_id, item]));
}

function placesBeside(answers, variant) {
  const [name, other] = [...answers].find(([one]) => one !== variant) || [];
  return other ? { name, isChallenger: name === "challenger", ranks: ranksOf(other.content.items) } : null;
}

function summary(before, click) {
  const { request, answers } = shown;
  const [[variant, first]] = answers;
  const n = first.content.items.length;
  const said = [`${n === 1 ? "1 item" : `${n} items`} for ${forWhom(request.body)}.`];
  const old = placesBefore(before, variant, first);
  if (old) said.push(sinceBefore(old, ranksOf(first.content.items), click.item));
  if (answers.size > 1) {
    const [one, other] = [...answers.values()].map((answer) => ranksOf(answer.content.items));
    said.push(`Champion to challenger: ${movesInWords(movesBetween(one, other), n, quoted)}`);
  }
  return said.join("\n");
}

function sinceBefore(old, ranks, item) {
  const before = ranksOf([...old.values()]);
  const moves = movesInWords(movesBetween(before, ranks), ranks.size, quoted);
  if (item === null || !ranks.has(item)) return `Since the ranking before: ${moves}`;
  const [was, now] = [before.get(item), ranks.get(item)];
  const went = was === now ? `it stays at ${now}` : `it went from ${was} to ${now}`;
  return `After the click on “${quoted(item)}” ${went}. ${moves}`;
}

function showNotes(request, every, click) {
  const notes = [...click.warnings, ...every.flatMap((content) => content.warnings || [])];
  const unknown = [...new Set(every.flatMap((content) => content.unknown))];
  if (unknown.length) {
    const named = unknown.slice(0, 10).join(", ") + (unknown.length > 10 ? ", …" : "");
    notes.push(`Unknown: nothing is stored about ${unknown.length} of the candidates, neither a description nor an event, `
      + `so their places say little: ${named}`);
  }
  if (every.length > 1 && every[0].model.ranker === every[1].model.ranker) {
    notes.push("The challenger failed on this request, so that the champion answered in its place: both orders are its own.");
  }
  for (const { rung } of request.body.explain ? every : []) {
    if (WITHOUT_MODEL.has(rung)) notes.push(`No explanations: none are made on the rung ${rung}.`);
  }
  $("notes").replaceChildren(...[...new Set(notes)].map((note) => element("li", "", note)));
}

/** The item, list and kind of control that has the focus within the lists, null elsewhere. */
function whereFocusIs() {
  const at = document.activeElement, row = at && at.closest("#lists [data-item]");
  if (!row) return null;
  return { item: row.dataset.item, list: [...$("lists").children].indexOf(row.closest(".variant")), tag: at.tagName };
}

function giveFocusBack(focused) {
  if (!focused) return;
  const rows = [...($("lists").children[focused.list] || $("lists")).querySelectorAll("[data-item]")];
  const row = rows.find((one) => one.dataset.item === focused.item);
  const control = row && row.querySelector(focused.tag);
  (control || $("answer-title")).focus();
}

/** Send a click on an item, or add it to the written history, and rank the same request again. */
async function clicked(item) {
  const { request } = shown, { item_id: id } = item;
  if (request.body.history) {
    await rank(withClick(request, id), { item: id, warnings: [] });
    return;
  }
  const user = request.body.user_id;
  if (user === null) throw new Error("A click needs a user: write a user id and rank, or write a history.");
  const event = { user_id: user, item_id: id, timestamp: new Date().toISOString(), event_type: "click" };
  const { content } = await call("v1/events", { events: [event] });
  if (content.rejected.length) throw new Error(`The click was refused: ${content.rejected[0].message}`);
  await rank(request, { item: id, warnings: content.warnings || [] });
}

async function find() {
  const words = $("words").value.trim();
  const { content } = await call(`v1/items?${new URLSearchParams({ words })}`);
  learnStored(content.items);
  const n = content.items.length;
  const found = n === 1 ? "1 item is found." : `${n || "No"} items are found.`;
  const more = n ? "There may be more: write another word." : "Only a part of the store was read in time.";
  showFound(content.items, content.complete ? found : `${found} ${more}`);
}

function on(id, event, work) {
  $(id).addEventListener(event, (happened) => {
    happened.preventDefault();
    work();
  });
}

on("key-form", "submit", () => guarded(() => {
  setKey($("key").value);
  $("key").value = "";
  return start();
}));
on("request", "submit", () => guarded(async () => {
  const request = readRequest();
  await readVersions();
  await rank(request);
  if ($("answer").getBoundingClientRect().top > innerHeight / 2) $("answer").scrollIntoView(); // below, on a phone
}));
on("find", "submit", () => guarded(find));
on("add-new", "click", () => {
  const title = $("words").value.trim();
  if (title) addNew(title);
  else $("found-status").textContent = "Write the title of the new item first.";
});
on("another", "click", () => guarded(() => {
  otherExamples();
  return rank(readRequest());
}));
$("compare").addEventListener("change", () => { if (shown) guarded(() => rank(shown.request)); });
document.querySelectorAll("input[name=who]").forEach((radio) => radio.addEventListener("change", showWho));
showWho();
guarded(start);
