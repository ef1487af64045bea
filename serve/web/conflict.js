// An edit conflict (412): shows who changed what and when, and asks what to do with the unsaved edits.
import { authorOf, timeOf } from "./author.js";
import { diffView } from "./diff.js";
import { $, button, element } from "./dom.js";
import { t } from "./i18n.js";
import { diff, versions } from "./vocabulary.js";

const MOST_VERSIONS = 20;

// Returns the versions of `name` after version `seen`, newest first.
export async function madeSince(name, seen) {
  const found = await versions(name, { size: MOST_VERSIONS });
  return found.versions.filter((item) => item.version > seen);
}

export function wordsOf(item) {
  const words = element("span");
  words.append(t("conflict.created", { version: String(item.version), author: authorOf(item) }), timeOf(item));
  if (item.note) words.append(` (${item.note})`);
  return words;
}

const shown = { question: null, difference: null };

// `question`: {name, seen, made, waiting, undoing, again, discard}; `waiting` may grow while the question is shown;
// `undoing` is set if an undo or redo was among the edits.
export async function showConflict(question) {
  Object.assign(shown, { question, difference: null });
  draw();
  const newest = question.made[0]?.version ?? question.seen;
  const found = await diff(question.name, question.seen, newest).catch(() => null); // the seen version may be deleted
  if (!found || shown.question !== question) return;
  shown.difference = diffView(found);
  draw();
}

export function hideConflict() {
  shown.question = null;
  draw();
}

// Updates the question when another edit is added to the queue.
export function redrawConflict() {
  if (shown.question) draw();
}

function draw() {
  $("conflict").hidden = !shown.question;
  $("conflict").replaceChildren(...(shown.question ? parts(shown.question) : []));
}

function parts({ made, waiting, undoing, again, discard }) {
  const who = element("ul");
  who.append(...made.map((item) => wrapped(wordsOf(item))));
  const found = [element("strong", "", t("conflict.title")), who];
  if (shown.difference) found.push(shown.difference);
  if (undoing) {
    found.push(element("p", "", t("conflict.undo")));
  }
  if (!waiting.length) return [...found, button(t("conflict.ok"), discard)];
  found.push(element("p", "", t("conflict.waiting", { edits: waiting.map((edit) => edit.what).join("; ") })));
  const { length: count } = waiting;
  return [...found, button(t("conflict.save", { count }), again, "main"), button(t("conflict.discard", { count }), discard)];
}

function wrapped(node) {
  const item = element("li");
  item.append(node);
  return item;
}
