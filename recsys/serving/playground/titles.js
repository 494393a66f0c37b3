// Titles by item id: those that stand in the request, and those of the store.

import { call } from "./api.js";

const MOST_CHARACTERS = 6000; // of ids in one address
const stored = new Map(); // "" where the store has none
let written = new Map();

export function titleOf(id) { return written.get(id) || stored.get(id) || ""; }

export function learnStored(items) {
  for (const item of items) stored.set(item.item_id, item.title);
}

/** Take the titles of items that stand in a request; these count before those of the store. */
export function learnWritten(rows) {
  const described = rows.filter((row) => typeof row === "object" && typeof row.title === "string");
  written = new Map(described.map((row) => [String(row.item_id), row.title]));
}

/** Ask the store for the titles of ids that are not known yet. */
export async function fetchTitles(ids) {
  const missing = [...new Set(ids)].filter((id) => !written.has(id) && !stored.has(id));
  for (const chunk of chunksOf(missing)) {
    const { content } = await call(`v1/items?${new URLSearchParams(chunk.map((id) => ["id", id]))}`);
    for (const id of chunk) stored.set(id, "");
    learnStored(content.items);
  }
}

function* chunksOf(ids) {
  let chunk = [], characters = 0;
  for (const id of ids) {
    const added = encodeURIComponent(id.toWellFormed()).length + 4;
    if (chunk.length && characters + added > MOST_CHARACTERS) {
      yield chunk;
      [chunk, characters] = [[], 0];
    }
    chunk.push(id);
    characters += added;
  }
  if (chunk.length) yield chunk;
}
