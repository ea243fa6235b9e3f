// Tree command: asks a running node for its supervision tree and draws it, once or each second.

import type { TreeNode } from "../../../supervisors/tree.ts";
import { AdminClient, type AdminReply } from "../admin-client.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { AddressFlags } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import { treeText } from "./tree-text.ts";

export interface TreeFlags extends AddressFlags {
  readonly watch?: boolean;
  readonly json?: boolean;
}

const EVERY_MS = 1_000;
const HOME_AND_CLEAR = "\u001b[H\u001b[J";

/** @throws ConfigError if the address cannot be used */
export async function tree({ watch, json, ...flags }: TreeFlags, terminal: Terminal): Promise<ExitCode> {
  const client = new AdminClient(flags, terminal);
  for (;;) {
    const answer = await client.get<TreeNode>("/admin/tree");
    if (answer.kind === "failed" && !watch) {
      terminal.stderr.write(`colloquy: ${answer.problem}\n`);
      return answer.exitCode;
    }
    const isDrawnOver = watch === true && terminal.stdout.isTTY === true && !json;
    terminal.stdout.write((isDrawnOver ? HOME_AND_CLEAR : "") + shownAs(answer, json === true));
    if (!watch) return EXIT.ok;
    await new Promise<void>((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

function shownAs(answer: AdminReply<TreeNode>, isJson: boolean): string {
  if (isJson) return `${JSON.stringify(answer.kind === "json" ? answer.json : { problem: answer.problem })}\n`;
  return answer.kind === "json" ? treeText(answer.json, Date.now()) : `${answer.problem}\n`;
}
