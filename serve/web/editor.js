// The vocabulary editor: opens a vocabulary, connects labels, settings and history, saves edits and reports results.
import { download, problemOf } from "./api.js";
import { authorOf, wireAuthor } from "./author.js";
import { hideConflict, madeSince, redrawConflict, showConflict } from "./conflict.js";
import { closeCreation, openCreation, takeFile, wireCreation } from "./creation.js";
import { $, showProblem } from "./dom.js";
import { Edits } from "./edits.js";
import { VersionHistory } from "./history.js";
import { language, t } from "./i18n.js";
import { closeOffer, offer, refreshOffer, wireImports } from "./imports.js";
import { hasKey } from "./key.js";
import { LABEL_FILE } from "./label_files.js";
import { LabelList } from "./labels.js";
import { effect, signal, untracked } from "./lib.js";
import { go, route } from "./router.js";
import { wireTabs } from "./tabs.js";
import { factsOf, forget, isEncoding, refresh, subscribe, took, watch } from "./vocabularies.js";
import { exportAddress, read } from "./vocabulary.js";
import { VocabularySettings } from "./vocabulary_settings.js";

const NARROW = matchMedia("(max-width: 60rem)"); // as in editor.css: the editor is below the answer
const FINDINGS_SHOWN = 10;
const EXPORTS = ["json", "csv", "txt"];
const open = { name: null, edits: null, content: null, turn: 0, reveals: false, tab: "tab-labels" };
const submit = (edit) => {
  open.edits.submit(edit);
  redrawConflict();
  showUndo();
};
const labels = new LabelList({ submit, say });
const settings = new VocabularySettings({ submit, erased });
const history = new VersionHistory({ submit, seen: () => open.edits.version });
const showTab = wireTabs($("editor-tabs"), (tab) => {
  open.tab = tab;
  if (tab === "tab-history" && open.edits) history.show();
});

export const isEditorOpen = signal(false);

// Opens the vocabulary that the address names.
export function followRoute() {
  let before = route.peek().tab;
  effect(() => {
    const { tab, name } = route.value;
    untracked(() => {
      if (tab === "vocabularies" && name) openEditor(name, before);
      else if (tab === "vocabularies" && !open.isCreating) closeEditor();
    });
    before = tab;
  });
  effect(() => {
    void language.value; // rows are drawn again when the vocabulary is opened
    untracked(() => {
      if (open.edits?.isIdle && !isTyped()) open.name = open.edits = null;
    });
  });
  effect(() => {
    $("editor").hidden = route.value.tab !== "vocabularies" || !isEditorOpen.value;
    document.body.classList.toggle("editing", !$("editor").hidden);
  });
}

async function openEditor(name, from) {
  if (!isFree(name)) return;
  open.isCreating = false;
  if (from !== "vocabularies" || !isEditorOpen.value) open.from = from;
  closeCreation();
  if (open.name !== name) {
    begin(name, factsOf(name)?.latest ?? 1);
    await load({ reveal: false });
  }
  showEditor();
  watch(name);
  if (NARROW.matches) $("editor").scrollIntoView();
  $("editor-heading").focus();
}

export function openNew(typed) {
  if (!isFree(null)) return;
  open.name = open.edits = null;
  open.isCreating = true;
  if (route.value.tab !== "vocabularies" || !isEditorOpen.value) open.from = route.value.tab;
  watch(null);
  go("vocabularies");
  showEditor();
  openCreation(typed);
}

function showEditor() {
  isEditorOpen.value = true;
  $("editor-body").hidden = !open.name;
  $("editor-name").textContent = open.name ?? t("editor.new");
}

function begin(name, version) {
  open.name = name;
  open.content = null;
  open.edits = new Edits(name, version, { saved, failed, settled, stopped });
  for (const part of [labels, settings, history]) part.clear(name);
  closeOffer();
  hideConflict();
  showProblem($("editor-problem"), null);
  showProblem($("editor-findings"), null);
  say("");
  showTab("tab-labels");
}

function closeEditor() {
  watch(null);
  isEditorOpen.value = false;
}

// Returns to the view from which the editor was opened.
function close() {
  open.isCreating = false;
  watch(null);
  go(open.from === "vocabularies" ? "vocabularies" : "classify");
  requestAnimationFrame(() => ($("edit-vocabulary") ?? $("vocabularies-heading"))?.focus());
}

// Returns whether another vocabulary can be opened without losing unsaved edits.
function isFree(name) {
  if (!open.edits || open.name === name || (open.edits.isIdle && !isTyped())) return true;
  go("vocabularies", open.name);
  say(t("editor.unsaved", { name: open.name }));
  $("editor-heading").focus();
  return false;
}

function isTyped() {
  return labels.isTyped || settings.isTyped;
}

// Shows the newest stored version, even if it is not in use yet.
async function load({ reveal }) {
  const turn = (open.turn += 1);
  const { name, edits } = open;
  try {
    const content = await read(name, edits.version);
    if (turn !== open.turn || name !== open.name) return;
    open.content = content;
    labels.set(content.labels, { reveal });
    settings.set(content, edits.version);
    showFindings(content);
    showExports(name, edits.version);
    refreshOffer(labels);
    if (open.tab === "tab-history") await history.show();
  } catch (error) {
    showProblem($("editor-problem"), problemOf(error), () => load({ reveal }));
  }
  showState();
}

function saved(facts, edit) {
  open.reveals ||= Boolean(edit.reveals || edit.by);
  showProblem($("editor-problem"), null);
  say(t("editor.saved", { version: String(facts.version), what: edit.what }));
  took(facts);
}

function failed(error, edit) {
  showProblem($("editor-problem"), { ...problemOf(error), title: t("editor.failed", { what: edit.what }) });
}

async function settled() {
  const reveal = open.reveals;
  open.reveals = false;
  if (open.content?.version !== open.edits.version) await load({ reveal });
}

// 412: shows the newest version, keeps typed text, and asks what to do with unsaved edits.
async function stopped() {
  const { name, edits } = open;
  const seen = edits.version;
  say("");
  try {
    const made = await madeSince(name, seen);
    edits.version = made[0]?.version ?? seen;
    const undoing = edits.dropSteps();
    const [again, discard] = [decided(() => edits.applyAgain()), decided(() => edits.discard())];
    await Promise.all([
      showConflict({ name, seen, made, waiting: edits.waiting, undoing, again, discard }),
      load({ reveal: false }),
      refresh(),
    ]);
  } catch (error) {
    showProblem($("editor-problem"), problemOf(error), stopped);
  }
}

function decided(act) {
  return () => {
    hideConflict();
    act();
    showState();
    $("editor-heading").focus();
  };
}

// Shows a version that was created elsewhere, while nothing is typed here.
async function followOther(facts) {
  const { edits, name } = open;
  edits.follow(facts.latest);
  await load({ reveal: false });
  const [newest] = await madeSince(name, facts.latest - 1).catch(() => []);
  if (newest && open.name === name) say(t("editor.followed", { version: String(newest.version), author: authorOf(newest) }));
}

function erased(name) {
  forget(name);
  open.name = open.edits = null;
  close();
  refresh().catch(() => {});
}

function hear() {
  if (!open.edits) return;
  const facts = factsOf(open.name);
  const isQuiet = open.edits.isIdle && !open.edits.isBusy && !labels.isRowTyped && !settings.isTyped;
  if (facts && facts.latest > open.edits.version && isQuiet) followOther(facts);
  showState();
}

function showState() {
  if (!open.edits) return;
  const facts = factsOf(open.name);
  showUndo();
  $("editor-version").textContent = stateWords(facts, open.content?.version ?? open.edits.version);
  showEncoding(facts);
}

function stateWords(facts, version) {
  if (!facts) return t("editor.deleted-elsewhere");
  const newer = facts.latest > open.edits.version ? t("editor.newer", { version: String(facts.latest) }) : "";
  const use = facts.current === version ? t("editor.in-use") : "";
  return t("editor.version", { version: String(version), use, newer });
}

function showEncoding(facts) {
  showFault(facts);
  $("encoding").hidden = !isEncoding(facts);
  if (!isEncoding(facts)) return;
  const { done = 0, total = 0 } = facts.encoding ?? {};
  if (total) Object.assign($("encoding-bar"), { max: total, value: done });
  else $("encoding-bar").removeAttribute("value");
  const far = total ? t("editor.encoding", { done, total }) : t("editor.encoding-waits");
  const until = facts.current ? t("editor.until", { version: String(facts.current) }) : t("editor.until-none");
  $("encoding-text").textContent = t("editor.encoding-text", { version: String(facts.latest), far, until });
}

function showFault(facts) {
  const fault = facts?.encoding?.fault;
  const until = facts?.current ? t("editor.still", { version: String(facts.current) }) : "";
  const problem = { title: t("editor.not-in-use"), detail: `${fault}. ${until}` };
  showProblem($("encoding-problem"), fault ? problem : null);
}

// Shows problems of a version stored by an older release, and labels that the model cannot distinguish.
function showFindings({ problems, num_problems, warnings, num_warnings }) {
  const shown = [...problems, ...warnings].slice(0, FINDINGS_SHOWN).map(({ detail }) => detail);
  const more = num_problems + num_warnings - shown.length;
  const detail = `${shown.join("; ")}${more ? t("editor.more", { count: more }) : ""}.`;
  const title = t(num_problems ? "editor.problems" : "editor.indistinct");
  showProblem($("editor-findings"), shown.length ? { title, detail } : null);
}

function showUndo() {
  const { undone, redone } = open.edits;
  for (const [id, word, what] of [["undo", t("editor.undo"), undone], ["redo", t("editor.redo"), redone]]) {
    if (what === null && document.activeElement === $(id)) $("editor-heading").focus();
    $(id).disabled = what === null;
    $(id).title = what === null ? t(`editor.nothing-${id}`) : `${word}: ${what}`;
  }
}

function showExports(name, version) {
  for (const format of EXPORTS) {
    const link = $(`export-${format}`);
    link.href = exportAddress(name, version, format);
    link.download = `${name}.${format}`;
    link.onclick = (event) => {
      if (!hasKey()) return;
      event.preventDefault();
      download(link.href, link.download).catch((error) => say(problemOf(error).detail));
    };
  }
}

function say(words) {
  $("editor-status").textContent = words;
}

function wireKeys() {
  document.addEventListener("keydown", (event) => {
    const isShortcut = (event.ctrlKey || event.metaKey) && !event.altKey;
    if (!isShortcut || $("editor").hidden || !open.edits || isTextField(event.target)) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) open.edits.redo();
    else open.edits.undo();
  });
}

function isTextField(target) {
  return target.matches("textarea, input:not([type=radio], [type=checkbox], [type=file])");
}

function wireDrops() {
  $("editor").addEventListener("drop", (event) => {
    const file = event.dataTransfer.files[0];
    if (!file || !LABEL_FILE.test(file.name)) return;
    event.preventDefault();
    if (open.name) offer(file, labels);
    else takeFile(file);
  });
}

export function wireEditor({ created }) {
  wireAuthor();
  wireKeys();
  wireDrops();
  wireImports(labels, () => open.content);
  wireCreation((facts) => {
    created(facts.name);
    go("vocabularies", facts.name);
  });
  subscribe(hear);
  $("undo").addEventListener("click", () => open.edits.undo());
  $("redo").addEventListener("click", () => open.edits.redo());
  $("editor-close").addEventListener("click", close);
  window.addEventListener("beforeunload", (event) => {
    if (open.edits && (!open.edits.isIdle || isTyped())) event.preventDefault();
  });
}
