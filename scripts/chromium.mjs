// Chromium: where a browser for the page tests is. Shared by scripts/ensure.mjs and test/page/.

import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** @returns {string | null} the path of CHROMIUM_BIN, else of the first browser of a known name on PATH */
export function findChromium(environment = process.env) {
  if (environment.CHROMIUM_BIN) return environment.CHROMIUM_BIN;
  const folders = (environment.PATH ?? "").split(delimiter).filter(Boolean);
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(isProgram) ?? null;
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
