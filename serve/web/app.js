// The page: renders the shell, follows the address, and connects to the server.
import { dropStored } from "./classification.js";
import { followComparison } from "./comparison.js";
import { followRoute, wireEditor } from "./editor.js";
import { translateStatic } from "./i18n.js";
import { html, render } from "./lib.js";
import { isDraggedOver } from "./parts/player.js";
import { chooseVocabulary } from "./question.js";
import { followHash } from "./router.js";
import { connect } from "./server.js";
import { Header, takeFilesOfView, View } from "./shell.js";
import { followTheme } from "./theme.js";
import { dropHeld } from "./timelines.js";
import { followQuestion } from "./views/classify.js";
import { followTimelineQuestion } from "./views/timeline.js";
import { start } from "./vocabularies.js";

function wireDrops() {
  for (const kind of ["dragover", "dragenter"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      isDraggedOver.value = true;
    });
  }
  document.addEventListener("dragleave", () => (isDraggedOver.value = false));
  document.addEventListener("drop", (event) => {
    const isTaken = event.defaultPrevented; // by another drop target of the page
    event.preventDefault();
    isDraggedOver.value = false;
    if (!isTaken) takeFilesOfView([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => takeFilesOfView([...(event.clipboardData?.files ?? [])]));
}

followTheme();
translateStatic();
followHash();
render(html`<${Header} />`, document.getElementById("header"));
render(html`<${View} />`, document.getElementById("view"));
wireEditor({ created: chooseVocabulary });
followQuestion();
followComparison();
followTimelineQuestion();
wireDrops();
window.addEventListener("pagehide", () => {
  dropStored();
  dropHeld();
});
connect(async () => {
  await start();
  followRoute();
});
