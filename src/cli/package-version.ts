// Package version: the one in package.json, which is two folders up from the sources and three up from dist.

import { readFileSync } from "node:fs";

export function packageVersion(): string {
  for (const place of ["../../package.json", "../../../package.json"]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as Record<
        string,
        string
      >;
      if (name === "colloquy" && version) return version;
    } catch {
      // not there: look further up
    }
  }
  return "unknown";
}
