// Lanes command: the lanes of all shards that do not flow, or whose replies wait on a list, and why.

import { LANE_STATES } from "../../domain/lane.ts";
import { AdminClient } from "../admin-client.ts";
import type { ExitCode } from "../exit.ts";
import type { AddressFlags } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import { knownState, LIMIT_MAX, list } from "./ls-command.ts";
import { type LaneJson, laneName, lanesSummaryText, lanesText } from "./operate-text.ts";
import { checkWhere, readCount } from "./target.ts";

export interface LanesFlags extends AddressFlags {
  readonly state?: string;
  readonly where?: readonly string[];
  readonly limit: string;
  readonly json?: boolean;
}

/** @throws ConfigError for what cannot be meant */
export async function lanes(flags: LanesFlags, terminal: Terminal): Promise<ExitCode> {
  const limit = readCount("--limit", flags.limit, LIMIT_MAX);
  const where = checkWhere(flags.where ?? [], "lanes");
  const state = flags.state === undefined ? undefined : knownState(flags.state, LANE_STATES);
  const client = new AdminClient(flags, terminal);
  return await list<LaneJson>(client, "/admin/lanes", [{ state, where }], limit, flags, terminal, {
    member: "lanes",
    name: laneName,
    text: (found) => lanesText(found, Date.now()),
    summary: (found) => (found.length > 0 ? lanesSummaryText(found) : NONE[state ?? "any"]!),
  });
}

const NONE: Readonly<Record<string, string>> = {
  any: "all lanes flow",
  flowing: "no lane that flows has replies on its list",
  retrying: "no lane is retrying",
  halted: "no lane is halted",
  closed: "no lane is closed",
};
