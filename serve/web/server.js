// The server of this page: its models and limits, and whether it responds.
import { getTagged } from "./api.js";
import { batch, computed, signal } from "./lib.js";
import { limits, readLimits } from "./limits.js";

const RETRY_MS = 1000;
export const models = signal(null); // the answer of /v1/models
export const modelsTag = signal(null); // its ETag, if the server sends one
export const knownLimits = signal(limits);
export const activeModel = computed(() => {
  const { models: versions = [], default: chosen } = models.value ?? {};
  return versions.find((version) => `${version.name}@${version.version}` === chosen) ?? versions.find(({ loaded }) => loaded);
});

export async function readModels() {
  const { body, tag } = await getTagged("v1/models");
  batch(() => {
    models.value = body;
    modelsTag.value = tag;
  });
}

// Connects to the server, which may be starting; `then` reads what else the page needs.
export async function connect(then) {
  try {
    await Promise.all([readModels(), readLimits()]);
    knownLimits.value = { ...limits };
    await then();
  } catch {
    models.value = null;
    setTimeout(() => connect(then), RETRY_MS);
  }
}
