// Show command: everything that is known of one conversation; what users wrote only when asked for.

import { AdminClient } from "../admin-client.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { AddressFlags } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import { type DetailJson, detailText } from "./operate-text.ts";
import { readConversation } from "./target.ts";

export interface ShowFlags extends AddressFlags {
  readonly stateData?: boolean;
  readonly payload?: boolean;
  readonly json?: boolean;
}

/** @throws ConfigError for what is no conversation */
export async function show(
  name: string,
  flags: ShowFlags,
  { environment, stdout, stderr }: Terminal,
): Promise<ExitCode> {
  const { bot, channel, conversation } = readConversation(name);
  const client = new AdminClient(flags, { environment });
  const path = `/admin/conversations/${[bot, channel, conversation].map(encodeURIComponent).join("/")}`;
  const reply = await client.get<DetailJson>(path, {
    state: flags.stateData ? "1" : undefined,
    payload: flags.payload ? "1" : undefined,
  });
  if (reply.kind === "failed") {
    stderr.write(`colloquy: ${reply.problem}\n`);
    return reply.exitCode;
  }
  stdout.write(flags.json ? `${JSON.stringify(reply.json)}\n` : detailText(reply.json, Date.now()));
  return EXIT.ok;
}
