// The example clips of one label: dropped or chosen, uploaded with progress, shown as removable chips.
import { send, upload } from "./api.js";
import { arrange, button, element } from "./dom.js";
import { bytes, moment, t } from "./i18n.js";
import { limits } from "./limits.js";
import { LABEL_FILE } from "./label_files.js";
import { address, changeHeaders, ifMatch } from "./vocabulary.js";

export class LabelExamples {
  // `row`: the row of the label, which shows problems.
  constructor(row) {
    this.row = row;
    this.chips = new Map(); // example_id -> node
    const find = (selector) => row.node.querySelector(selector);
    [this.list, this.file, this.progress] = [find(".chips"), find(".clip-file"), find(".upload")];
    this.removeAll = find(".remove-clips");
    const parts = ["progress", "span", "button"];
    [this.bar, this.stage, this.cancel] = parts.map((part) => this.progress.querySelector(part));
    this.removeAll.addEventListener("click", () => this.#remove(null));
    this.file.addEventListener("change", () => {
      this.add([...this.file.files]);
      this.file.value = "";
    });
    this.#wireDrops();
  }

  show(label) {
    const { examples = [] } = label;
    this.file.setAttribute("aria-label", t("clips.add", { label: label.name }));
    this.removeAll.setAttribute("aria-label", t("clips.remove-all", { label: label.name }));
    this.removeAll.hidden = examples.length < 2;
    const hadFocus = this.list.contains(document.activeElement);
    const made = new Map(examples.map((example) => [example.example_id, this.#chipOf(example, label)]));
    this.chips = made;
    arrange(this.list, [...made.values()]);
    if (hadFocus && !this.list.contains(document.activeElement)) {
      (this.list.querySelector("button") ?? this.file).focus();
    }
  }

  add(files) {
    if (!files.length) return;
    this.row.open(true);
    const fault = tooLarge(files);
    if (fault) return this.row.tell(fault);
    const names = files.length === 1 ? t("clips.one", { name: files[0].name }) : t("count.clips", { count: files.length });
    return this.row.submit(null, {
      what: t("edit.add-clips", { clips: names, label: this.row.label.name }),
      request: (version) => this.#send(files, version),
    });
  }

  async #send(files, version) {
    const form = new FormData();
    for (const file of files) form.append("video", file);
    const abort = new AbortController();
    this.cancel.onclick = () => abort.abort();
    this.#showProgress(0, files);
    try {
      return await upload(this.#address(), form, {
        headers: changeHeaders(ifMatch(version)),
        signal: abort.signal,
        onProgress: (share) => this.#showProgress(share, files),
      });
    } finally {
      this.progress.hidden = true;
    }
  }

  #showProgress(share, files) {
    this.progress.hidden = false;
    if (share < 1) this.bar.value = share;
    else this.bar.removeAttribute("value");
    const clips = t("count.clips", { count: files.length });
    const percent = Math.round(share * 100);
    this.stage.textContent = share < 1 ? t("clips.uploading", { clips, percent }) : t("clips.processing", { clips });
  }

  #remove(example) {
    const clips = example ? t("clips.one", { name: example.filename }) : t("clips.all");
    const path = this.#address(example ? `/${encodeURIComponent(example.example_id)}` : "");
    this.row.submit(null, {
      what: t("edit.remove-clips", { clips, label: this.row.label.name }),
      request: (version) => send("DELETE", path, { headers: changeHeaders(ifMatch(version)) }),
    });
  }

  #address(rest = "") {
    return address(this.row.list.vocabulary, `/labels/${encodeURIComponent(this.row.id)}/examples${rest}`);
  }

  #chipOf(example, label) {
    const known = this.chips.get(example.example_id);
    if (known) return known;
    const chip = element("li", "chip");
    chip.title = t("clips.facts", { size: bytes(example.num_bytes), time: moment(example.created_at) });
    const remove = button("×", () => this.#remove(example), "remove");
    remove.setAttribute("aria-label", t("clips.remove", { name: example.filename, label: label.name }));
    chip.append(element("span", "", example.filename || t("clips.unnamed")), remove);
    return chip;
  }

  #wireDrops() {
    const { node } = this.row;
    node.addEventListener("dragover", (event) => {
      event.preventDefault();
      event.stopPropagation(); // not a drop on the video to classify
      node.classList.add("over");
    });
    node.addEventListener("dragleave", (event) => {
      if (!node.contains(event.relatedTarget)) node.classList.remove("over");
    });
    node.addEventListener("drop", (event) => {
      node.classList.remove("over");
      const files = [...event.dataTransfer.files].filter((file) => !LABEL_FILE.test(file.name));
      if (!files.length) return;
      event.preventDefault();
      this.add(files);
    });
  }
}

function tooLarge(files) {
  const each = limits.vocabularies?.max_example_bytes ?? limits.max_upload_bytes;
  const large = files.find((file) => file.size > each);
  if (large) {
    const detail = t("clips.too-large.detail", { limit: String(each), name: large.name, size: String(large.size) });
    return { title: t("clips.too-large"), detail };
  }
  const all = files.reduce((sum, file) => sum + file.size, 0);
  if (all <= limits.max_upload_bytes) return null;
  return { title: t("problem.too-large"), detail: t("clips.all-too-large", { limit: String(limits.max_upload_bytes), size: String(all) }) };
}
