// The frame of the page: header, tabs, notices, and the view of the chosen tab.
import { isEditorOpen } from "./editor.js";
import { t } from "./i18n.js";
import { html } from "./lib.js";
import { addressOf, route, TABS } from "./router.js";
import { activeModel, models } from "./server.js";
import { Classify, takeFiles } from "./views/classify.js";
import { Jobs } from "./views/jobs.js";
import { Models } from "./views/models.js";
import { Search, takeSearchFiles } from "./views/search.js";
import { Settings } from "./views/settings.js";
import { takeTimelineFiles, Timeline } from "./views/timeline.js";
import { VocabularyList } from "./views/vocabulary_list.js";
import { isOffline } from "./vocabularies.js";

const VIEWS = { timeline: Timeline, search: Search, models: Models, jobs: Jobs, settings: Settings };
const TAKERS = { classify: takeFiles, vocabularies: takeFiles, timeline: takeTimelineFiles, search: takeSearchFiles };

// Hands dropped or pasted files to the view that is shown.
export function takeFilesOfView(files) {
  if (files.length) TAKERS[route.value.tab]?.(files);
}

export function Header() {
  const { tab } = route.value;
  return html`
    <div class="brand">
      <h1><a href="#/classify">actserve</a></h1>
      <p id="model" aria-live="polite">${modelText()}</p>
      <a href="docs">${t("api")}</a>
    </div>
    <nav aria-label=${t("tabs")}>
      ${TABS.map(
        (name) => html`<a key=${name} href=${addressOf(name)} aria-current=${name === tab ? "page" : undefined}>${t(`tab.${name}`)}</a>`,
      )}
    </nav>`;
}

function modelText() {
  if (!models.value) return t("model.starting");
  const model = activeModel.value;
  return model ? t("model.active", { model: `${model.name}@${model.version}`, engine: model.engine ?? "" }) : t("model.none");
}

export function View() {
  const { tab } = route.value;
  const notice = activeModel.value?.notice;
  return html`
    ${notice && html`<${Notice} text=${notice} />`}
    ${isOffline.value && html`<p id="offline" class="notice" role="status">${t("offline")}</p>`}
    ${viewOf(tab)}`;
}

// Shows the first sentence, and the others when it is opened.
function Notice({ text }) {
  const [, first, rest] = /^(.*?[.。](?=\s|$)|.*)([^]*)$/.exec(text);
  if (!rest.trim()) return html`<p id="notice" class="notice" dir="auto">${text}</p>`;
  return html`<details id="notice" class="notice" dir="auto"><summary>${first}</summary>${rest}</details>`;
}

// Classify and the open editor share one element, so that the video goes on playing.
function viewOf(tab) {
  const isEditing = tab === "vocabularies" && isEditorOpen.value;
  if (tab === "classify" || isEditing) return html`<${Classify} key="classify" isBeside=${isEditing} />`;
  if (tab === "vocabularies") return html`<${VocabularyList} key=${tab} />`;
  return html`<${VIEWS[tab]} key=${tab} />`;
}
