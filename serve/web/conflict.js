// Somebody else was faster (412): who, when, what; and what becomes of the edits that wait.
import { authorOf, timeOf } from "/web/author.js";
import { diffView } from "/web/diff.js";
import { $, button, element } from "/web/dom.js";
import { diff, versions } from "/web/vocabulary.js";

const MOST_VERSIONS = 20;

// What happened to `name` since version `seen`, newest first.
export async function madeSince(name, seen) {
  const found = await versions(name, { size: MOST_VERSIONS });
  return found.versions.filter((item) => item.version > seen);
}

export function wordsOf(item) {
  const words = element("span");
  words.append(`version ${item.version} was made by ${authorOf(item)}, `, timeOf(item));
  if (item.note) words.append(` (${item.note})`);
  return words;
}

// `undoing`: an undo or redo was among what was asked for.
export async function showConflict({ name, seen, made, waiting, undoing, again, discard }) {
  const noun = waiting.length === 1 ? "edit" : "edits";
  const who = element("ul");
  who.append(...made.map((item) => wrapped(wordsOf(item))));
  $("conflict").replaceChildren(element("strong", "", "Somebody else changed this vocabulary"), who);
  if (undoing) {
    const words = "Going a step back or forth would take that back too, so it was not done.";
    $("conflict").append(element("p", "", `${words} The history reaches every version.`));
  }
  if (waiting.length) {
    $("conflict").append(element("p", "", `Not saved yet: ${waiting.map((edit) => edit.what).join("; ")}.`));
    $("conflict").append(button(`Save my ${noun} on top`, again, "main"), button(`Discard my ${noun}`, discard));
  } else {
    $("conflict").append(button("All right", discard));
  }
  $("conflict").hidden = false;
  const found = await diff(name, seen, made[0]?.version ?? seen).catch(() => null); // the seen version may be gone
  if (found && !$("conflict").hidden) who.after(diffView(found));
}

export function hideConflict() {
  $("conflict").hidden = true;
  $("conflict").replaceChildren();
}

function wrapped(node) {
  const item = element("li");
  item.append(node);
  return item;
}
