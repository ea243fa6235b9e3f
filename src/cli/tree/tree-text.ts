// Tree text: the supervision tree of a node as lines for a terminal. Pure.

import type { TreeNode } from "../../../supervisors/tree.ts";

const NAME_COLUMN_MAX = 44;

/** @param nowMs ms since the Unix epoch, to say how long ago something ended */
export function treeText(tree: TreeNode, nowMs: number): string {
  const lines = linesOf(tree, "", "", nowMs);
  const width = Math.min(NAME_COLUMN_MAX, Math.max(...lines.map(({ name }) => name.length)));
  return lines.map(({ name, about }) => `${name.padEnd(width)}  ${about}\n`).join("");
}

interface Line {
  readonly name: string;
  readonly about: string;
}

function linesOf(node: TreeNode, branch: string, indent: string, nowMs: number): Line[] {
  const below = node.children.flatMap((child, i) => {
    const isLast = i === node.children.length - 1;
    return linesOf(child, indent + (isLast ? "└─ " : "├─ "), indent + (isLast ? "   " : "│  "), nowMs);
  });
  return [{ name: branch + node.id, about: aboutOf(node, nowMs) }, ...below];
}

function aboutOf({ state, strategy, restartsLeft, mailboxDepth, counts, lastExit }: TreeNode, nowMs: number): string {
  const words: string[] = [state];
  if (strategy !== null) words.push(strategy);
  if (counts !== undefined) {
    words.push(`${counts.running.toLocaleString("en")} running`);
    for (const what of ["starting", "restarting", "crashing", "restarts"] as const)
      if (counts[what] > 0) words.push(`${counts[what].toLocaleString("en")} ${what}`);
  }
  if (restartsLeft !== null) words.push(restartsLeft === 1 ? "1 restart left" : `${restartsLeft} restarts left`);
  if (mailboxDepth !== null && mailboxDepth > 0) words.push(`${mailboxDepth.toLocaleString("en")} waiting`);
  if (lastExit !== null) words.push(`last exit ${ago(nowMs - lastExit.atMs)} ago: ${reasonOf(lastExit)}`);
  return words.join(" · ");
}

function reasonOf({ reason, error }: NonNullable<TreeNode["lastExit"]>): string {
  const { name, code, message } = (error ?? {}) as { name?: string; code?: string; message?: string };
  return [reason, code ?? name, message].filter((word) => word !== undefined).join(" ");
}

const UNITS: readonly (readonly [string, number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];

function ago(ms: number): string {
  const [unit, size] = UNITS.find(([, each]) => ms >= each) ?? ["s", 1_000];
  return `${Math.max(0, Math.floor(ms / size))} ${unit}`;
}
