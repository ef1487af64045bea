// An edit conflict (412): shows who changed what and when, and asks what to do with the unsaved edits.
import { authorOf, timeOf } from "./author.js";
import { diffView } from "./diff.js";
import { $, button, element } from "./dom.js";
import { diff, versions } from "./vocabulary.js";

const MOST_VERSIONS = 20;

// Returns the versions of `name` after version `seen`, newest first.
export async function madeSince(name, seen) {
  const found = await versions(name, { size: MOST_VERSIONS });
  return found.versions.filter((item) => item.version > seen);
}

export function wordsOf(item) {
  const words = element("span");
  words.append(`version ${item.version} was created by ${authorOf(item)}, `, timeOf(item));
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
  const noun = waiting.length === 1 ? "edit" : "edits";
  const who = element("ul");
  who.append(...made.map((item) => wrapped(wordsOf(item))));
  const found = [element("strong", "", "Somebody else changed this vocabulary"), who];
  if (shown.difference) found.push(shown.difference);
  if (undoing) {
    const words = "Undo and redo would also revert that change, so they were not applied.";
    found.push(element("p", "", `${words} To return to an earlier version, use the history.`));
  }
  if (!waiting.length) return [...found, button("OK", discard)];
  found.push(element("p", "", `Not saved yet: ${waiting.map((edit) => edit.what).join("; ")}.`));
  return [...found, button(`Save my ${noun} on top`, again, "main"), button(`Discard my ${noun}`, discard)];
}

function wrapped(node) {
  const item = element("li");
  item.append(node);
  return item;
}
