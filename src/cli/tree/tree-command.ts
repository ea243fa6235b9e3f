// Tree command: asks a running node for its supervision tree and draws it, once or each second.

import { request } from "undici";
import type { TreeNode } from "../../../supervisors/tree.ts";
import { resolveConfig } from "../../config.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { type AddressFlags, serverAddress } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import { treeText } from "./tree-text.ts";

export interface TreeFlags extends AddressFlags {
  readonly watch?: boolean;
  readonly json?: boolean;
}

const EVERY_MS = 1_000;
const ANSWER_TIMEOUT_MS = 5_000;
const HOME_AND_CLEAR = "\u001b[H\u001b[J";

/** @throws ConfigError if the address cannot be used */
export async function tree({ watch, json, ...flags }: TreeFlags, terminal: Terminal): Promise<ExitCode> {
  const address = new URL("/admin/tree", serverAddress(flags));
  const { adminToken } = resolveConfig({}, terminal.environment);
  for (;;) {
    const answer = await ask(address, adminToken);
    if ("problem" in answer && !watch) {
      terminal.stderr.write(`colloquy: ${answer.problem}\n`);
      return EXIT.failed;
    }
    const isDrawnOver = watch === true && terminal.stdout.isTTY === true && !json;
    terminal.stdout.write((isDrawnOver ? HOME_AND_CLEAR : "") + shownAs(answer, json === true));
    if (!watch) return EXIT.ok;
    await new Promise<void>((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

type Answer = { readonly tree: TreeNode } | { readonly problem: string };

function shownAs(answer: Answer, isJson: boolean): string {
  if (isJson) return `${JSON.stringify("tree" in answer ? answer.tree : { problem: answer.problem })}\n`;
  return "tree" in answer ? treeText(answer.tree, Date.now()) : `${answer.problem}\n`;
}

async function ask(url: URL, token: string | undefined): Promise<Answer> {
  try {
    const { statusCode, body } = await request(url, {
      headersTimeout: ANSWER_TIMEOUT_MS,
      bodyTimeout: ANSWER_TIMEOUT_MS,
      ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
    });
    const text = await body.text();
    if (statusCode === 200) return { tree: JSON.parse(text) as TreeNode };
    return { problem: `${url.origin} answered ${statusCode} to ${url.pathname}: ${hintOf(statusCode)}` };
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return {
      problem: `nothing answered at ${url.origin} (${code ?? message}); is it running? if so, where: --port, or --url`,
    };
  }
}

function hintOf(status: number): string {
  if (status === 401 || status === 404)
    return "from another machine it takes COLLOQUY_ADMIN_TOKEN, the same here and there";
  return "is this a colloquy?";
}
