// The chat page in a real browser, on a real runtime with the demo bot, which is killed under it.

import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Arena, freePort, PROJECT_ROOT, until } from "../system/support/arena.ts";
import { RuntimeProcess } from "../system/support/runtime-process.ts";
import { linesOf, openBrowser, picture, say } from "./browser.ts";

const PAGE_BYTES_MAX = 60 * 1_024;
const FIRST_PAINT_MS_MAX = 1_000;

const arena = new Arena("page");
let browser: BrowserContext;
let port: number;
let runtime: RuntimeProcess;
/** Of every page: what should never be there. */
const complaints: string[] = [];

function startRuntime(): RuntimeProcess {
  const bot = join(PROJECT_ROOT, "examples/demo.ts");
  return new RuntimeProcess(arena, { port, data: arena.dataFolder("data"), bot });
}

beforeAll(async () => {
  port = await freePort();
  runtime = startRuntime();
  await runtime.ready();
  browser = await openBrowser(arena);
}, 60_000);
afterAll(() => arena.cleanUp(), 60_000);
afterEach(async () => {
  for (const page of browser.pages()) await page.close();
  expect(complaints.splice(0)).toEqual([]);
});

async function openPage(hash = "", width = 1_100): Promise<Page> {
  const page = await browser.newPage();
  await page.setViewportSize({ width, height: 720 });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(`${runtime.url}/${hash}`);
  await page.waitForSelector('#link[data-state="up"]');
  return page;
}

const shows = (page: Page, lines: readonly string[], withinMs = 15_000): Promise<unknown> =>
  until(async () => JSON.stringify(await linesOf(page)) === JSON.stringify(lines), {
    what: `the lines ${lines.join(" / ")}`,
    withinMs,
    explain: async () => `there are: ${(await linesOf(page)).join(" / ")}`,
  });

test("a message is answered, with its number and state, and the record beside it is the stored one", async () => {
  const page = await openPage();
  await picture(page, "1-empty");
  await say(page, "add milk, eggs");
  await shows(page, ["add milk, eggs | you · #1 · answered", "#1 On the list: milk, eggs. | bot · #1"]);
  await until(async () => (await page.textContent("#r-state"))?.includes("eggs"), {
    what: "the state",
    withinMs: 5_000,
  });
  expect(await page.textContent("#r-seq")).toBe("1");
  expect(await page.textContent("#r-out")).toBe("1");
  expect(await page.textContent("#kill")).toBe(`kill -9 ${runtime.pid}`);
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText(`Copied: kill -9 ${runtime.pid}`).waitFor();
  expect(await page.evaluate("navigator.clipboard.readText()")).toBe(`kill -9 ${runtime.pid}`);
  await picture(page, "2-answered");
  expect(await page.evaluate("localStorage.length")).toBe(0);
});

test("the server is killed: the page says so, keeps what is typed, comes back, and shows nothing twice", async () => {
  const page = await openPage();
  const address = await page.evaluate("location.hash");
  await say(page, "add bread");
  await shows(page, ["add bread | you · #1 · answered", "#1 On the list: bread. | bot · #1"]);

  await runtime.kill();
  await page.getByRole("alert").getByText("Connection lost, retrying; nothing is lost.").waitFor();
  await say(page, "add butter");
  await say(page, "add jam");
  await page.getByText("2 messages wait here to be sent.").waitFor();
  await until(async () => (await page.textContent("#pending"))?.includes("add jamyou · not sent yet, kept here"), {
    what: "the state of the unsent message",
    withinMs: 5_000,
  });
  await picture(page, "3-killed");
  runtime = startRuntime();
  await runtime.ready();
  const after = [
    "add bread | you · #1 · answered",
    "#1 On the list: bread. | bot · #1",
    "add butter | you · #2 · answered",
    "#2 On the list: bread, butter. | bot · #2",
    "add jam | you · #3 · answered",
    "#3 On the list: bread, butter, jam. | bot · #3",
  ];
  await shows(page, after);
  expect(await page.getByRole("alert").isHidden()).toBe(true);
  await until(async () => (await page.textContent("#kill")) === `kill -9 ${runtime.pid}`, {
    what: "the new pid",
    withinMs: 5_000,
  });
  await picture(page, "4-back");
  await page.reload();
  await shows(page, after);
  expect(await page.evaluate("location.hash")).toBe(address);
});

test("a message typed while the server is away survives a page that is closed, and arrives once", async () => {
  const page = await openPage("#demo/closed");
  await runtime.kill();
  await page.getByRole("alert").getByText("Connection lost").waitFor();
  await say(page, "add tea");
  await page.close();
  runtime = startRuntime();
  await runtime.ready();
  const again = await openPage("#demo/closed");
  await shows(again, ["add tea | you · #1 · answered", "#1 On the list: tea. | bot · #1"]);
});

test("what came while the page had no connection is shown when it is back, in order, nothing twice", async () => {
  const page = await openPage("#demo/away");
  await postWeb("away", "m1", "add thing1");
  await until(async () => (await linesOf(page)).length === 2, { what: "the first lines", withinMs: 10_000 });
  await page.route("**/events?*", (route) => route.abort());
  await runtime.kill();
  runtime = startRuntime();
  await runtime.ready();
  for (const n of [2, 3]) await postWeb("away", `m${n}`, `add thing${n}`);
  await postWeb("away", "m1", "add thing1");
  expect(await linesOf(page)).toHaveLength(2);
  await page.unroute("**/events?*");
  await shows(page, [
    "add thing1 | you · #1 · answered",
    "#1 On the list: thing1. | bot · #1",
    "add thing2 | you · #2 · answered",
    "#2 On the list: thing1, thing2. | bot · #2",
    "add thing3 | you · #3 · answered",
    "#3 On the list: thing1, thing2, thing3. | bot · #3",
  ]);
});

test("the server is killed at the moment of sending: the message counts once", async () => {
  const page = await openPage();
  for (const n of [1, 2, 3]) {
    await say(page, `add cup${n}`);
    runtime.killNow();
    await page.getByRole("alert").getByText("Connection lost").waitFor();
    runtime = startRuntime();
    await runtime.ready();
    await until(async () => (await linesOf(page)).length === 2 * n, { what: `answer ${n}`, withinMs: 15_000 });
  }
  await shows(page, [
    "add cup1 | you · #1 · answered",
    "#1 On the list: cup1. | bot · #1",
    "add cup2 | you · #2 · answered",
    "#2 On the list: cup1, cup2. | bot · #2",
    "add cup3 | you · #3 · answered",
    "#3 On the list: cup1, cup2, cup3. | bot · #3",
  ]);
});

test("two tabs of one conversation agree", async () => {
  const first = await openPage("#demo/tabs");
  const second = await openPage("#demo/tabs");
  await say(first, "add one");
  await shows(second, ["add one | you · #1 · answered", "#1 On the list: one. | bot · #1"]);
  await say(second, "add two");
  const both = [
    "add one | you · #1 · answered",
    "#1 On the list: one. | bot · #1",
    "add two | you · #2 · answered",
    "#2 On the list: one, two. | bot · #2",
  ];
  await shows(first, both);
  await shows(second, both);
  expect(await first.textContent("#pending")).toBe("");
});

test("markup in a message stays text", async () => {
  const page = await openPage();
  const evil = `add <script>alert(1)</script><img src=x onerror=alert(2)><b>bold</b>`;
  await say(page, evil);
  await until(async () => (await linesOf(page)).length === 2, { what: "the answer", withinMs: 10_000 });
  expect((await linesOf(page))[0]).toBe(`${evil} | you · #1 · answered`);
  expect(await page.$$("#log script, #log img, #log b, #r-state img")).toEqual([]);
  await picture(page, "5-markup");
});

test("the keyboard is enough", async () => {
  const page = await openPage();
  expect(await focused(page)).toBe("text");
  await page.keyboard.type("add a");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("b");
  await page.keyboard.press("Enter");
  await shows(page, ["add a\nb | you · #1 · answered", "#1 On the list: a, b. | bot · #1"]);
  expect(await focused(page)).toBe("text");
  await page.keyboard.press("Shift+Tab");
  expect(await focused(page)).toBe("scroll");
  const before = await page.evaluate("location.hash");
  await page.keyboard.press("Shift+Tab");
  expect(await focused(page)).toBe("new");
  await page.keyboard.press("Enter");
  await until(async () => (await page.evaluate("location.hash")) !== before, {
    what: "a new one",
    withinMs: 5_000,
  });
  expect(await focused(page)).toBe("text");
  await shows(page, []);
});

test("a screen reader finds a log, labels and states", async () => {
  const page = await openPage();
  await say(page, "add milk");
  await until(async () => (await linesOf(page)).length === 2, { what: "the answer", withinMs: 10_000 });
  await until(async () => (await page.getAttribute("#log", "aria-live")) === "polite", {
    what: "aria-live",
    withinMs: 5_000,
  });
  await page.getByRole("log", { name: "Conversation" }).waitFor();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  await page.getByRole("combobox", { name: "Bot" }).waitFor();
  await page.getByRole("status").getByText("Connected").waitFor();
});

test("on a phone, in the dark: nothing overflows, and 200 lines scroll", async () => {
  for (let n = 1; n <= 100; n += 1) await postWeb("long", `m${n}`, n === 50 ? `add ${"x".repeat(400)}` : "show");
  const page = await openPage("#demo/long", 360);
  await page.emulateMedia({ colorScheme: "dark" });
  await until(async () => (await linesOf(page)).length === 200, { what: "200 lines", withinMs: 10_000 });
  const sizes = (): Promise<{ page: number; isScrolling: boolean; isAtEnd: boolean }> =>
    page.evaluate(`(() => {
      const scroll = document.getElementById("scroll");
      return {
        page: document.documentElement.scrollWidth,
        isScrolling: scroll.scrollHeight > scroll.clientHeight * 3,
        isAtEnd: scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 5,
      };
    })()`);
  await until(async () => (await sizes()).isAtEnd, { what: "the end to be shown", withinMs: 5_000 });
  expect(await sizes()).toMatchObject({ page: 360, isScrolling: true });
  await picture(page, "6-phone");
  await page.evaluate('document.getElementById("scroll").scrollTop = 0');
  await postWeb("long", "m101", "show");
  await page.getByText("#101 On the list").waitFor({ state: "attached" });
  expect(await page.evaluate('document.getElementById("scroll").scrollTop')).toBe(0); // who reads back is left there
  await page.setViewportSize({ width: 1_100, height: 720 });
  await picture(page, "7-dark");
});

test("the page is small and painted at once", async () => {
  const page = await openPage();
  const { paintMs, bytes } = await page.evaluate<{ paintMs: number; bytes: number }>(`({
    paintMs: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    bytes: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
      .reduce((sum, entry) => sum + entry.encodedBodySize + 300, 0),
  })`);
  process.stdout.write(`first paint ${paintMs.toFixed(0)} ms, ${bytes} bytes\n`);
  expect(paintMs).toBeLessThan(FIRST_PAINT_MS_MAX);
  expect(bytes).toBeLessThan(PAGE_BYTES_MAX);
});

const focused = (page: Page): Promise<string> => page.evaluate<string>("document.activeElement.id");

async function postWeb(conversation: string, id: string, text: string): Promise<void> {
  const response = await fetch(`${runtime.url}/channels/web/demo`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ conversation, id, text }),
  });
  expect(response.status).toBe(202);
}
