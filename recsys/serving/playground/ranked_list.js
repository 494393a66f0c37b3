// One ranked list: places and what moved, titles, scores, and why.

import { button, columnName, element, seenAndSaid, words } from "./elements.js";

const RUNGS = {
  full: "the whole model",
  no_encoding: "texts without a vector counted as missing",
  no_text: "the ranker without text answered",
  popularity: "by clicks in memory",
  caller_order: "the candidates kept their order",
};
const LOWER = "a lower rung: there was no time for the whole model, or the store is away";

/** One answer as the page shows it.
 *
 * heading: "Champion", "" for none. answer: of /v1/rank, with `milliseconds` and `server` beside its `content`.
 * before: rank and score by item in the order before, null for none. other: the ranks and the name of the answer beside
 * it, and whether it is the challenger's, null for none. clicked: the item that was clicked last. titleOf: words for an id, "" for none. onClick: called
 * with an item. open: ids whose explanation is open; it is kept up to date.
 */
export function rankedList({ heading, answer, before, other, clicked, titleOf, onClick, open }) {
  const { items, unknown } = answer.content;
  const scores = items.map((item) => item.score);
  const low = Math.min(...scores), span = Math.max(...scores) - low;
  const contributions = items.flatMap((item) => item.groups || []).map((one) => Math.abs(one.contribution));
  const view = {
    before, other, clicked, titleOf, onClick, open,
    heading,
    unknown: new Set(unknown),
    share: (score) => (span ? (score - low) / span : 1),
    largest: Math.max(...contributions, Number.MIN_VALUE),
  };
  const made = element("div", "variant");
  if (heading) made.append(element("h3", "", `${heading} `, words("bdi", "", answer.content.model.ranker)));
  const list = element("ol", "ranked", ...items.map((item) => row(item, view)));
  list.setAttribute("role", "list"); // Safari drops it with the markers
  list.setAttribute("aria-label", heading ? `Order of the ${heading.toLowerCase()}` : "Order of the items");
  made.append(facts(answer, heading), list);
  return made;
}

/** The heading, if there is one, has the ranker already. */
function facts({ content, milliseconds, server }, heading) {
  const { ranker, encoder } = content.model;
  const rung = element("b", "", content.rung);
  const known = RUNGS[content.rung];
  const shown = [
    ...(heading ? [] : [["ranker", element("b", "", ranker)]]),
    ["encoder", element("b", "", encoder || "none")],
    ["rung", rung, known ? `(${known})` : `(${LOWER})`],
    ["server", element("b", "", server === null ? "not told" : `${server.toFixed(1)} ms`)],
    ["round trip", element("b", "", `${milliseconds.toFixed(1)} ms`)],
    ["request", element("b", "", content.request_id)],
  ];
  return element("ul", "facts", ...shown.map(([name, ...value]) => (
    element("li", "", `${name} `, ...value.flatMap((part, index) => (index ? [" ", part] : [part]))))));
}

function row(item, view) {
  const { item_id: id } = item;
  const title = view.titleOf(id);
  const made = element("li", id === view.clicked ? "clicked" : "");
  made.dataset.item = id;
  const middle = element("div", "", words("div", "title", title || id), scoreLine(item, title, view));
  if (view.other) middle.append(otherPlace(item, view.other));
  const click = button("compact", "Click", `Click ${title || id}`, () => view.onClick(item));
  const filled = element("span");
  filled.style.width = `${(4 + 96 * view.share(item.score)).toFixed(1)}%`;
  made.append(place(item, view), middle, click, element("div", "bar", filled));
  const [nearest] = item.because || [];
  if (nearest) made.append(element("p", "because", "near to ", ...near(nearest, view)));
  if (item.groups) made.append(why(item, view, title || id));
  return made;
}

function place(item, { before }) {
  const made = element("span", "place", item.rank);
  const was = before && before.get(item.item_id);
  if (was && was.rank !== item.rank) {
    made.append(moved(was.rank, item.rank), seenAndSaid("move same", `was ${was.rank}`));
  }
  return made;
}

function moved(was, now) {
  const up = was > now, by = Math.abs(was - now);
  return seenAndSaid(`move ${up ? "up" : "down"}`, `${up ? "▲" : "▼"} ${by}`, `, ${up ? "up" : "down"} ${by}, was ${was}`);
}

function scoreLine(item, title, { before, unknown, clicked }) {
  const made = element("div", "small", `score ${fixed(item.score)}`);
  const was = before && before.get(item.item_id);
  if (was && fixed(was.score) !== fixed(item.score)) made.append(` (${signed(item.score - was.score, 4)})`);
  if (title) made.prepend(words("bdi", "", item.item_id), " · ");
  if (item.item_id === clicked) made.append(" ", element("span", "badge", "clicked"));
  if (unknown.has(item.item_id)) made.append(" ", element("span", "badge", "nothing is known of it"));
  return made;
}

/** The item's place in the answer beside this one. The move is the one from champion to challenger, in both lists. */
function otherPlace(item, { name, ranks, isChallenger }) {
  const rank = ranks.get(item.item_id);
  if (rank === undefined) return element("div", "small other", `${name}: further down`);
  const made = element("div", "small other", `${name}: ${rank} `);
  if (rank === item.rank) made.append("(same)");
  else made.append(isChallenger ? moved(item.rank, rank) : moved(rank, item.rank));
  return made;
}

function fixed(number) { return number.toFixed(4).replace("-", "−"); }

function signed(number, digits = 3) {
  return (number >= 0 ? "+" : "−") + Math.abs(number).toFixed(digits);
}

function near({ item_id: id, by, similarity }, { titleOf }) {
  return [words("bdi", "", titleOf(id) || id), ` (${by === "text" ? "" : "co-click "}${fixed(similarity).slice(0, -2)})`];
}

/** The nearest items of the history; what each group of columns added to the score, as a bar to the right or the left; the
 * columns of the largest effect. */
function why(item, view, title) {
  const { largest, open, heading } = view;
  const made = element("details", "why");
  const place = `${heading} ${item.item_id}`;
  made.open = open.has(place);
  made.addEventListener("toggle", () => (made.open ? open.add(place) : open.delete(place)));
  made.append(element("summary", "", "Why", element("span", "unseen", ` ${title} has this score`)));
  if (item.because && item.because.length) {
    const nearest = item.because.map((one) => element("li", "", ...near(one, view)));
    made.append(element("h4", "", "Nearest items of the history"), element("ul", "", ...nearest));
  }
  const groups = item.groups.filter((one) => one.contribution !== 0).map((one) => {
    const filled = element("span", one.contribution >= 0 ? "plus" : "minus");
    filled.style.width = `${(50 * Math.abs(one.contribution) / largest).toFixed(1)}%`;
    const name = element("th", "", one.group);
    name.scope = "row";
    return element("tr", "", name, element("td", "", element("div", "effect", filled)), number(signed(one.contribution)));
  });
  made.append(element("table", "groups", element("caption", "", "What groups of columns added to the score"), ...groups));
  const columns = (item.explanation || []).map((one) => element(
    "tr", "", columnName("td", one.column), number(shortest(one.value)),
    number(signed(one.contribution))));
  if (columns.length) {
    const head = element("tr", "", element("th", "", "column"), number("value", "th"), number("added", "th"));
    made.append(element("table", "", element("caption", "", "Columns of the largest effect"), head, ...columns));
  }
  return made;
}

function shortest(value) { return value === null ? "missing" : String(Number(value.toPrecision(4))).replace(/^-/, "−"); }

function number(text, tag = "td") { return element(tag, "number", text); }
