// Calls to the server. The API key stays in this module's memory; every failure is an Error with one sentence.

const PATIENCE = 30_000; // milliseconds
const MEANING = {
  401: "This server answers requests with an API key only. Enter one above; `recsys keys add NAME --scope write` makes one.",
  403: "The key may not do this.",
  503: "The server has no time or is not ready; try again in a moment.",
};
let key = "";

/** Send a key with every request from now on, none for "". Throws an Error for what no header can hold. */
export function setKey(text) {
  const given = text.trim();
  if (/[^\x21-\x7e]/.test(given)) throw new Error("An API key has no spaces, and letters, digits and signs of ASCII only.");
  key = given;
}

export class ApiError extends Error {
  /** status: of HTTP, 0 where no answer came. field: dotted path of the field at fault, "" for none. */
  constructor(message, status, field = "") {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** Ask the server. body: sent as JSON by POST; without one it is a GET.
 *
 * Gives the answer's content, the milliseconds of the round trip, and those that the server counted, null if it did not.
 */
export async function call(path, body, headers = {}) {
  const options = { headers: { ...headers }, signal: AbortSignal.timeout(PATIENCE), cache: "no-store" };
  if (key) options.headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const started = performance.now();
  let answer, text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch (error) {
    if (error.name === "TimeoutError") throw new ApiError(`No answer came within ${PATIENCE / 1000} s.`, 0);
    throw new ApiError("The server cannot be reached. Is it still running?", 0);
  }
  const milliseconds = performance.now() - started;
  const content = parsed(text);
  if (answer.ok && content !== null) return { content, milliseconds, server: serverMilliseconds(answer) };
  throw failure(answer.status, content);
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return null; }
}

function serverMilliseconds(answer) {
  const found = /\bdur=([\d.]+)/.exec(answer.headers.get("Server-Timing") || "");
  return found ? Number(found[1]) : null;
}

function failure(status, content) {
  const error = content && content.error;
  const meaning = MEANING[status] ? `${MEANING[status]} ` : "";
  if (!error) return new ApiError(`${meaning}The server answered ${status} without a reason.`, status);
  const field = error.field || "";
  return new ApiError(`${meaning}${field ? `${field}: ` : ""}${error.message} (${status} ${error.code})`, status, field);
}
