// What the server takes, as /v1/limits says.
import { getJson } from "/web/api.js";

export const limits = {};

export async function readLimits() {
  Object.assign(limits, await getJson("/v1/limits"));
}
