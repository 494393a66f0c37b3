// Items as lines of text: an id a line, or a JSON object; an id that would read as something else is a JSON string.

const AMBIGUOUS = /^[{["]|^\s|\s$|[\n\r]/;

/** Items of a field, as the API takes them, and the line that each stands in. Throws an Error that names the line. */
export function readItems(text, name) {
  if (text.trimStart().startsWith("[")) {
    const rows = arrayOf(text, name);
    if (rows) return { rows, lines: null };
  }
  const rows = [], lines = [];
  text.split(/\r\n|\n|\r/).forEach((line, index) => {
    const content = line.trim();
    if (!content) return;
    rows.push(/^[{"]/.test(content) ? readJson(content, `${name}, line ${index + 1}`) : content);
    lines.push(index + 1);
  });
  return { rows, lines };
}

/** A whole JSON array, as it stands in a request; null for lines of ids of which the first begins with a bracket. */
function arrayOf(text, name) {
  let rows;
  try { rows = JSON.parse(text); } catch { return null; }
  return rows.map((row, index) => checked(row, `${name}, item ${index + 1}`));
}

function readJson(text, place) {
  let row;
  try { row = JSON.parse(text); } catch (error) {
    throw new Error(`${place}: expected an id or one JSON object, got JSON that cannot be read: ${error.message}`);
  }
  return checked(row, place);
}

function checked(row, place) {
  if (["string", "number"].includes(typeof row)) return row;
  if (row === null || typeof row !== "object" || Array.isArray(row) || !("item_id" in row)) {
    throw new Error(`${place}: expected an id or an object with item_id, got ${JSON.stringify(row).slice(0, 60)}`);
  }
  return row;
}

/** The line of an item. */
export function lineOf(row) {
  if (typeof row === "object") return JSON.stringify(row);
  return AMBIGUOUS.test(row) ? JSON.stringify(row) : String(row);
}

export function idOf(row) { return String(typeof row === "object" ? row.item_id : row); }

/** The text of a field with one more line at its end. */
export function withLine(text, row) {
  const before = text.replace(/\s+$/, "");
  return `${before}${before ? "\n" : ""}${lineOf(row)}\n`;
}

/** Where a field of an error stands: `candidates.3.title` as line 4, counted with the lines that are empty. */
export function placeOf(field, fields) {
  const [name, index] = field.split(".");
  const found = fields[name];
  const line = found && found.lines && found.lines[Number(index)];
  return line ? `${name}, line ${line}` : "";
}
