// Browser: a real Chromium with a profile of its own, for one test file.

import { type BrowserContext, chromium, type Page } from "playwright-core";
import { findChromium } from "../../scripts/chromium.mjs";
import type { Arena } from "../system/support/arena.ts";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

/** Ends with the arena. @param scale pixels of a picture for each pixel of the page */
export async function openBrowser(arena: Arena, scale = 1): Promise<BrowserContext> {
  const executablePath = findChromium();
  if (executablePath === null) throw new Error("no Chromium is on PATH; type: npm run test:page");
  const context = await chromium.launchPersistentContext(arena.path("profile"), {
    executablePath,
    headless: true,
    args: ARGUMENTS,
    viewport: { width: 1_100, height: 720 },
    deviceScaleFactor: scale,
    permissions: ["clipboard-read", "clipboard-write"],
  });
  arena.onCleanUp(() => context.close());
  return context;
}

/** What stands in the log, line by line: who, number, state and text. */
export function linesOf(page: Page): Promise<string[]> {
  return page.$$eval("#log .message", (shown) =>
    shown.map((line) => [...line.children].map((child) => child.textContent).join(" | ")),
  );
}

/** How many lines stand before each mark of a server's end. */
export function seamsOf(page: Page): Promise<number[]> {
  return page.$$eval("#log .seam:not([hidden])", (shown) =>
    shown.map((seam) => {
      const children = [...(seam.parentElement?.children ?? [])];
      return children.slice(0, children.indexOf(seam)).filter((child) => child.classList.contains("message")).length;
    }),
  );
}

/** Types into the box and presses Enter. */
export async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

/** Where pictures go for whoever wants to look: COLLOQUY_TEST_PICTURES, else nowhere. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.COLLOQUY_TEST_PICTURES;
  if (folder) await page.screenshot({ path: `${folder}/${name}.png` });
}
