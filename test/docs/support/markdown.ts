// Markdown: the project's pages, taken apart as far as tests need: code blocks, links, headings.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const ROOT: string = fileURLToPath(new URL("../../../", import.meta.url));

export interface Page {
  /** Path below the project's folder. */
  readonly path: string;
  readonly text: string;
}

export interface CodeBlock {
  readonly page: string;
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

/** Every page that is in the repository or about to be. */
export function pages(): readonly Page[] {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"], {
    cwd: ROOT,
    encoding: "utf8",
  });
  const paths = [...new Set(listed.split("\0"))].filter((path) => path !== "" && existsSync(ROOT + path));
  return paths.map((path) => ({ path, text: readFileSync(ROOT + path, "utf8") }));
}

export function codeBlocks({ path, text }: Page): readonly CodeBlock[] {
  const blocks: CodeBlock[] = [];
  for (const match of text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)) {
    const line = text.slice(0, match.index).split("\n").length;
    blocks.push({ page: path, line, language: match[1]!, code: match[2]! });
  }
  return blocks;
}

/** Text outside of code blocks; what is code in a line stays. */
export const prose = ({ text }: Page): string => text.replace(/^```\w*\n[\s\S]*?^```$/gm, "");

/** Targets of links that lead nowhere but into this repository. */
export function localLinks(page: Page): readonly string[] {
  const targets = [...prose(page).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target!);
  return targets.filter((target) => !/^[a-z]+:/.test(target));
}

/** Anchors of a page's headings, as the usual hosts make them. */
export function anchors(page: Page): ReadonlySet<string> {
  const headings = [...prose(page).matchAll(/^#{1,6} (.*)$/gm)].map(([, heading]) => heading!);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}
