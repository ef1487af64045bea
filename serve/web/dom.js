// Elements of the page. External text is inserted as text, never as HTML.
import { t } from "./i18n.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, act, className = "quiet") {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export function lines(text) {
  return text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter(Boolean);
}

// Shows a problem in an element, or hides it; `again` adds a retry button if a retry may succeed.
export function showProblem(place, problem, again) {
  place.hidden = !problem;
  place.replaceChildren();
  if (!problem) return;
  place.append(element("strong", "", problem.title ?? t("problem.title")), element("span", "", problem.detail ?? ""));
  if (again && problem.isPassing) place.append(button(t("again"), again));
}

// Sets the children of an element without moving nodes that are in position, because a moved field loses the focus.
export function arrange(place, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...place.children]) if (!wanted.has(child)) child.remove();
  let next = place.firstElementChild;
  for (const node of nodes) {
    if (node === next) next = next.nextElementSibling;
    else place.insertBefore(node, next);
  }
}
