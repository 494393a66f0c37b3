// The fields of the request, and what they say as JSON of the API.

import { $, button, element, words } from "./elements.js";
import { idOf, lineOf, placeOf, readItems, withLine } from "./lines.js";

const AT_ONCE = 12;
const MADE_UP = ["Storm nears the coast", "Late goal wins the cup final", "Ten dinners in half an hour"];
let examples = { users: [], items: [] };
let next = 0;

/** Take ids to try; the candidates become the first of them. */
export function setExamples(found) {
  examples = found;
  next = 0;
  $("users").replaceChildren(...found.users.map((user) => {
    const made = element("option");
    made.value = user;
    return made;
  }));
  $("user").value = found.users[0] || "";
  $("empty").hidden = found.items.length > 0;
  showExamples();
}

/** The next examples, of candidates and of users. */
export function otherExamples() {
  const { users } = examples;
  if (users.length) $("user").value = users[(users.indexOf($("user").value) + 1) % users.length];
  next += AT_ONCE;
  showExamples();
}

function showExamples() {
  const { items } = examples;
  const rows = items.length
    ? Array.from({ length: Math.min(AT_ONCE, items.length) }, (_, i) => items[(next + i) % items.length].item_id)
    : MADE_UP.map((title, index) => ({ item_id: `new-${index + 1}`, title }));
  $("candidates").value = rows.map(lineOf).join("\n");
}

export function writesHistory() { return document.querySelector("input[name=who]:checked").value === "history"; }

export function showWho() {
  $("user-field").hidden = writesHistory();
  $("history-field").hidden = !writesHistory();
}

/** A request: its `body`, its `headers`, and `place`, which says where the field of an error stands.
 *
 * Throws an Error where a field cannot be read.
 */
export function readRequest() {
  const fields = { candidates: readItems($("candidates").value, "candidates") };
  const body = { user_id: null, candidates: fields.candidates.rows, explain: $("explain").checked };
  if (!body.candidates.length) throw new Error("Write at least one candidate.");
  if (writesHistory()) {
    fields.history = readItems($("history").value, "history");
    body.history = fields.history.rows;
  } else {
    body.user_id = $("user").value.trim() || null;
  }
  for (const [name, id] of [["query", "query"], ["timestamp", "timestamp"]]) {
    if ($(id).value.trim()) body[name] = $(id).value.trim();
  }
  if ($("top-k").value) body.top_k = Number($("top-k").value);
  const headers = $("budget").value ? { "X-Budget-Ms": $("budget").value } : {};
  return { body, headers, place: (field) => placeOf(field, fields) };
}

/** For whom a request ranks, in words. */
export function forWhom({ history, user_id: user }) {
  if (history) return `a history of ${history.length}`;
  return user === null ? "a user without history" : `user ${user}`;
}

/** A request with an item that was clicked at the end of its written history, which the field shows too. */
export function withClick(request, id) {
  const row = request.body.candidates.find((one) => idOf(one) === id);
  $("history").value = withLine($("history").value, row);
  return { ...request, body: { ...request.body, history: [...request.body.history, row] } };
}

/** Show items that were found, each with buttons that add it. */
export function showFound(items, status) {
  $("found-status").textContent = status;
  $("found").replaceChildren(...items.map(({ item_id: id, title }) => {
    const what = element("div", "what", words("div", "", title || id), title ? words("div", "small", id) : "");
    const name = title || id;
    return element(
      "li", "", what,
      button("compact", "Candidate", `Add ${name} to the candidates`, () => add("candidates", id, name)),
      button("compact", "History", `Add ${name} to the history`, () => add("history", id, name)),
    );
  }));
}

/** Add an item that nobody has seen before to the candidates. */
export function addNew(title) {
  const used = new Set($("candidates").value.match(/"new-\d+"/g));
  let number = 1;
  while (used.has(`"new-${number}"`)) number += 1;
  add("candidates", { item_id: `new-${number}`, title }, title);
}

function add(field, row, name) {
  if (field === "history") {
    document.querySelector("input[name=who][value=history]").checked = true;
    showWho();
  }
  $(field).value = withLine($(field).value, row);
  $(field).scrollTop = $(field).scrollHeight;
  $("found-status").textContent = `“${name}” is in the ${field}.`;
}
