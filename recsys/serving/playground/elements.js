// Making elements. Text of the store is only ever set as textContent, so that it is never read as HTML.

export const $ = (id) => document.getElementById(id);

/** An element. parts: text or elements that it holds. */
export function element(tag, className, ...parts) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...parts.map((part) => (part instanceof Node ? part : String(part))));
  return made;
}

/** Words of the data, in whatever script: the browser finds their direction, and takes no language for granted. */
export function words(tag, className, text) {
  const made = element(tag, className, text);
  made.dir = "auto";
  made.lang = "";
  return made;
}

/** A name that programs made, `category_ctr`: its parts keep their order beside one that is written from right to left. */
export function columnName(tag, name) {
  const made = element(tag);
  name.split("_").forEach((part, index) => made.append(index ? "_" : "", words("bdi", "", part)));
  return made;
}

/** Text for people who look, and other text, "" for none, for those who listen. */
export function seenAndSaid(className, seen, said = "") {
  const shown = element("span", "", seen);
  shown.setAttribute("aria-hidden", "true");
  return element("span", className, shown, ...(said ? [element("span", "unseen", said)] : []));
}

export function button(className, text, name, work) {
  const made = element("button", className, text);
  made.type = "button";
  made.setAttribute("aria-label", name);
  made.addEventListener("click", work);
  return made;
}
