// The queue of edits of one vocabulary. Edits are sent one at a time, each based on the version of the previous one.
//
// An edit is {what, request(version) -> facts, done?(facts), failed?(error), dropped?()}. If the server has another
// version than expected (412), the edit and all later ones wait for a decision of the user. Undo rolls back to the state before an
// edit, which creates a new version; `states` holds the newest version that equals each state.
import { t } from "./i18n.js";
import { rollBack } from "./vocabulary.js";

export class Edits {
  // `listener`: saved(facts, edit), failed(error, edit), settled() when the queue is empty, stopped() on a 412.
  constructor(name, version, listener) {
    this.name = name;
    this.listener = listener;
    this.waiting = [];
    this.isBusy = false;
    this.isStopped = false;
    this.follow(version);
  }

  // Continues from a version created elsewhere; earlier edits can no longer be undone separately.
  follow(version) {
    this.version = version;
    this.states = [{ version, what: "" }];
    this.at = 0;
  }

  get isIdle() {
    return !this.waiting.length;
  }

  get undone() {
    return this.at > 0 && !this.isStopped ? this.states[this.at].what : null;
  }

  get redone() {
    return this.at + 1 < this.states.length && !this.isStopped ? this.states[this.at + 1].what : null;
  }

  submit(edit) {
    this.waiting.push(edit);
    this.#work();
  }

  undo() {
    this.#step(-1, t("edit.undo"));
  }

  redo() {
    this.#step(1, t("edit.redo"));
  }

  // After a 412: applies the waiting edits to the newest version, or drops them.
  applyAgain() {
    this.follow(this.version);
    this.isStopped = false;
    this.#work();
  }

  discard() {
    const dropped = this.waiting.splice(0);
    this.follow(this.version);
    this.isStopped = false;
    for (const edit of dropped) edit.dropped?.();
  }

  // Drops undo and redo, which cannot be applied to another version; returns whether there were any.
  dropSteps() {
    const kept = this.waiting.filter((edit) => !edit.by);
    const hadSteps = kept.length < this.waiting.length;
    this.waiting = kept;
    return hadSteps;
  }

  #step(by, word) {
    if (this.isStopped) return;
    this.submit({
      what: word,
      by,
      request: (version) => {
        const wanted = this.states[this.at + by];
        return wanted ? rollBack(this.name, version, wanted.version) : null;
      },
    });
  }

  async #work() {
    if (this.isBusy || this.isStopped) return;
    this.isBusy = true;
    while (this.waiting.length && !this.isStopped) await this.#send(this.waiting[0]);
    this.isBusy = false;
    if (!this.isStopped) this.listener.settled();
  }

  async #send(edit) {
    let facts;
    try {
      facts = await edit.request(this.version);
    } catch (error) {
      this.#refused(edit, error);
      return;
    }
    this.waiting.shift();
    if (facts === null) return; // nothing to undo
    this.version = facts.version;
    this.#record(edit, facts.version);
    edit.done?.(facts);
    this.listener.saved(facts, edit);
  }

  #refused(edit, error) {
    if (error.problem?.status === 412) {
      this.isStopped = true;
      this.listener.stopped();
      return;
    }
    this.waiting.shift();
    if (edit.failed) edit.failed(error);
    else this.listener.failed(error, edit);
  }

  #record(edit, version) {
    if (edit.by) {
      edit.what = `${edit.what}: ${this.states[Math.max(this.at, this.at + edit.by)].what}`;
      this.at += edit.by;
      this.states[this.at].version = version;
      return;
    }
    this.states.splice(this.at + 1);
    this.states.push({ version, what: edit.what });
    this.at += 1;
  }
}
