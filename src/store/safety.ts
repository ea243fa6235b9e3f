// Safety: do the server's settings keep the promise? Pure; who asks, and what follows, is the caller's.

import type { StoreFacts } from "./shard-store.ts";

/** How much a crash of Redis' machine may lose: nothing, about a second, anything; `assumed`: CONFIG is forbidden, trust it. */
export type Durability = "always" | "everysec" | "none" | "assumed";

const MAJOR_MIN = 7;
const FSYNC_STRENGTH = { no: 0, everysec: 1, always: 2 } as const;

/** @returns what is wrong, one line each with what to do about it; empty if the server is safe enough for `durability` */
export function checkSafety(facts: StoreFacts, durability: Durability): string[] {
  const problems: string[] = [];
  if (!(Number.parseInt(facts.version, 10) >= MAJOR_MIN)) {
    problems.push(`Redis is version ${facts.version}: the scripts need ${MAJOR_MIN}.0 or later; upgrade the server`);
  }
  if (facts.role !== "master") {
    problems.push("Redis is a replica, which accepts no writes: give the address of its master");
  }
  return problems.concat(checkConfig(facts.config, durability));
}

function checkConfig(config: StoreFacts["config"], durability: Durability): string[] {
  if (config === null) {
    if (durability === "assumed") return [];
    return [
      "Redis forbids CONFIG GET, so its settings cannot be checked: allow it, or vouch with --durability assumed",
    ];
  }
  const problems: string[] = [];
  if (config.maxmemoryPolicy !== "noeviction") {
    problems.push(
      `Redis may evict what was accepted (maxmemory-policy ${config.maxmemoryPolicy}): CONFIG SET maxmemory-policy noeviction`,
    );
  }
  return durability === "none" ? problems : problems.concat(checkFsync(config, durability));
}

function checkFsync(
  config: NonNullable<StoreFacts["config"]>,
  durability: "always" | "everysec" | "assumed",
): string[] {
  const asked = durability === "everysec" ? "everysec" : "always";
  if (!config.appendonly) {
    return ["Redis keeps no append-only file: CONFIG SET appendonly yes, or accept losses with --durability none"];
  }
  const problems: string[] = [];
  if (FSYNC_STRENGTH[config.appendfsync] < FSYNC_STRENGTH[asked]) {
    const weaker = config.appendfsync === "everysec" ? "everysec" : "none";
    problems.push(
      `Redis syncs too rarely (appendfsync ${config.appendfsync}): CONFIG SET appendfsync ${asked}, or accept losses with --durability ${weaker}`,
    );
  }
  if (config.noAppendfsyncOnRewrite) {
    problems.push(
      "Redis pauses syncing while it rewrites its file, up to 30 s: CONFIG SET no-appendfsync-on-rewrite no, or accept losses with --durability none",
    );
  }
  return problems;
}
