// The chat page in a real browser, on a real runtime with the demo bot, which is killed under it.

import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { until } from "../system/support/arena.ts";
import { linesOf, picture, say, seamsOf } from "./browser.ts";
import { linesAfter, shows } from "./meal.ts";
import { Stage } from "./stage.ts";

const PAGE_BYTES_MAX = 60 * 1_024;
const FIRST_PAINT_MS_MAX = 1_000;

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open("page");
}, 60_000);
afterAll(() => stage?.close(), 60_000);
afterEach(async () => {
  for (const page of stage.browser.pages()) await page.close();
  expect(stage.complaints.splice(0)).toEqual([]);
});

test("a message is answered, with its number and state, and the record beside it is the stored one", async () => {
  const page = await stage.openPage();
  await picture(page, "1-empty");
  await say(page, "2 margherita");
  await shows(page, linesAfter(["2 margherita"]));
  await until(async () => (await page.textContent("#r-state"))?.includes("Margherita"), {
    what: "the state",
    withinMs: 5_000,
  });
  expect(await page.textContent("#r-seq")).toBe("1");
  expect(await page.textContent("#r-out")).toBe("1");
  const killLine = `kill -9 ${stage.runtime.pid}`;
  expect(await page.textContent("#kill")).toBe(killLine);
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText(`Copied: ${killLine}`).waitFor();
  expect(await page.evaluate("navigator.clipboard.readText()")).toBe(killLine);
  await picture(page, "2-answered");
  expect(await page.evaluate("localStorage.length")).toBe(0);
});

test("the server is killed: the page says so, keeps what is typed, comes back, and shows nothing twice", async () => {
  const page = await stage.openPage();
  const address = await page.evaluate("location.hash");
  await say(page, "1 cola");
  await shows(page, linesAfter(["1 cola"]));

  const { pid } = stage.runtime;
  await stage.runtime.kill();
  await page.getByRole("alert").getByText("Connection lost, retrying; nothing is lost.").waitFor();
  await say(page, "1 water");
  await say(page, "1 funghi");
  await page.getByText("2 messages wait here to be sent.").waitFor();
  await until(async () => (await page.textContent("#pending"))?.includes("1 funghiyou · not sent yet, kept here"), {
    what: "the state of the unsent message",
    withinMs: 5_000,
  });
  await picture(page, "3-killed");
  await stage.startAgain();
  const after = linesAfter(["1 cola", "1 water", "1 funghi"]);
  await shows(page, after);
  expect(await page.getByRole("alert").isHidden()).toBe(true);
  await page.getByText(`Process ${pid} ended here, process ${stage.runtime.pid} went on.`).waitFor();
  expect(await seamsOf(page)).toEqual([2]); // behind what stood there, before what was typed since
  await until(async () => (await page.textContent("#kill")) === `kill -9 ${stage.runtime.pid}`, {
    what: "the new pid",
    withinMs: 5_000,
  });
  await picture(page, "4-back");
  await page.reload();
  await shows(page, after);
  expect(await page.evaluate("location.hash")).toBe(address);
});

test("a connection that is lost while the server lives leaves no mark", async () => {
  const page = await stage.openPage();
  await say(page, "1 cola");
  await shows(page, linesAfter(["1 cola"]));
  await page.context().setOffline(true); // stops what begins from now on
  await page.evaluate('dispatchEvent(new Event("online"))'); // makes the page connect anew
  await page.getByRole("alert").getByText("Connection lost").waitFor();
  await page.context().setOffline(false);
  await page.getByRole("status").getByText("Connected").waitFor();
  await say(page, "1 water");
  await shows(page, linesAfter(["1 cola", "1 water"]));
  expect(await seamsOf(page)).toEqual([]);
});

test("a message typed while the server is away survives a page that is closed, and arrives once", async () => {
  const page = await stage.openPage("#demo/closed");
  await stage.runtime.kill();
  await page.getByRole("alert").getByText("Connection lost").waitFor();
  await say(page, "1 tiramisu");
  await page.close();
  await stage.startAgain();
  const again = await stage.openPage("#demo/closed");
  await shows(again, linesAfter(["1 tiramisu"]));
});

test("what came while the page had no connection is shown when it is back, in order, nothing twice", async () => {
  const page = await stage.openPage("#demo/away");
  await postWeb("away", "m1", "1 cola");
  await until(async () => (await linesOf(page)).length === 2, { what: "the first lines", withinMs: 10_000 });
  await page.route("**/events?*", (route) => route.abort());
  await stage.runtime.kill();
  await stage.startAgain();
  await postWeb("away", "m2", "2 water");
  await postWeb("away", "m3", "3 diavola");
  await postWeb("away", "m1", "1 cola");
  expect(await linesOf(page)).toHaveLength(2);
  await page.unroute("**/events?*");
  await shows(page, linesAfter(["1 cola", "2 water", "3 diavola"]));
});

test("the server is killed at the moment of sending: the message counts once", async () => {
  const page = await stage.openPage();
  for (const n of [1, 2, 3]) {
    await say(page, `${n} cola`);
    stage.runtime.killNow();
    await page.getByRole("alert").getByText("Connection lost").waitFor();
    await stage.startAgain();
    await until(async () => (await linesOf(page)).length === 2 * n, { what: `answer ${n}`, withinMs: 15_000 });
  }
  await shows(page, linesAfter(["1 cola", "2 cola", "3 cola"]));
});

test("two tabs of one conversation agree", async () => {
  const first = await stage.openPage("#demo/tabs");
  const second = await stage.openPage("#demo/tabs");
  await say(first, "1 cola");
  await shows(second, linesAfter(["1 cola"]));
  await second.getByRole("button", { name: "checkout" }).click();
  const both = linesAfter(["1 cola", "checkout"]);
  await shows(first, both);
  await shows(second, both);
  expect(await quickRepliesOf(first)).toEqual(["12 Harbour Street, Dublin", "cancel"]);
  expect(await quickRepliesOf(second)).toEqual(await quickRepliesOf(first));
  expect(await first.textContent("#pending")).toBe("");
});

test("markup in a message stays text", async () => {
  const page = await stage.openPage();
  const evil = `<script>alert(1)</script><img src=x onerror=alert(2)><b>bold</b>`;
  await say(page, evil);
  await until(async () => (await linesOf(page)).length === 2, { what: "the answer", withinMs: 10_000 });
  expect((await linesOf(page))[0]).toBe(`${evil} | you · #1 · answered`);
  expect((await linesOf(page))[1]).toContain("<script>");
  expect(await page.$$("#log script, #log img, #log b, #r-state img")).toEqual([]);
  await picture(page, "5-markup");
});

test("the keyboard is enough", async () => {
  const page = await stage.openPage();
  expect(await focused(page)).toBe("text");
  await page.keyboard.type("1 cola,");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("2 water");
  await page.keyboard.press("Enter");
  await shows(page, linesAfter(["1 cola,\n2 water"]));
  expect(await focused(page)).toBe("text");

  await page.keyboard.press("Shift+Tab");
  expect(await focused(page)).toBe("cancel");
  for (let n = 0; n < 3; n += 1) await page.keyboard.press("Shift+Tab");
  expect(await focused(page)).toBe("checkout");
  await page.keyboard.press("Enter");
  await shows(page, linesAfter(["1 cola,\n2 water", "checkout"]));
  expect(await focused(page)).toBe("text"); // the button is gone
  for (const place of ["cancel", "12 Harbour Street, Dublin", "scroll"]) {
    await page.keyboard.press("Shift+Tab");
    expect(await focused(page)).toBe(place);
  }

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

test("a screen reader finds a log, labels and states, and the answers that are offered", async () => {
  const page = await stage.openPage();
  await page.getByRole("group", { name: "Quick replies" }).getByRole("button", { name: "hello" }).click();
  await shows(page, linesAfter(["hello"]));
  await until(async () => (await page.getAttribute("#log", "aria-live")) === "polite", {
    what: "aria-live",
    withinMs: 5_000,
  });
  await page.getByRole("log", { name: "Conversation" }).waitFor();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  await page.getByRole("combobox", { name: "Bot" }).waitFor();
  await page.getByRole("status").getByText("Connected").waitFor();
  await page.getByRole("group", { name: "Quick replies" }).getByRole("button", { name: "menu" }).waitFor();
});

test("answers are offered to the newest line only", async () => {
  const page = await stage.openPage();
  await say(page, "1 cola");
  await shows(page, linesAfter(["1 cola"]));
  expect(await quickRepliesOf(page)).toEqual(["checkout", "1 tiramisu", "1 water", "cancel"]);
  await stage.runtime.kill();
  await page.getByRole("alert").getByText("Connection lost").waitFor();
  await page.getByRole("button", { name: "checkout" }).click();
  expect(await quickRepliesOf(page)).toEqual([]);
  await stage.startAgain();
  await shows(page, linesAfter(["1 cola", "checkout"]));
  expect(await quickRepliesOf(page)).toEqual(["12 Harbour Street, Dublin", "cancel"]);
  await page.reload();
  await shows(page, linesAfter(["1 cola", "checkout"]));
  expect(await quickRepliesOf(page)).toEqual(["12 Harbour Street, Dublin", "cancel"]);
});

test("on a phone, in the dark: nothing overflows, and 200 lines scroll", async () => {
  for (let n = 1; n <= 100; n += 1)
    await postWeb("long", `m${n}`, n === 50 ? "x".repeat(400) : n === 1 ? "2 margherita, 1 cola" : "cart");
  const page = await stage.openPage("#demo/long", { width: 360, colorScheme: "dark" });
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
  await postWeb("long", "m101", "remove tiramisu");
  await page.getByText("There is no Tiramisu in your cart").waitFor({ state: "attached" });
  expect(await page.evaluate('document.getElementById("scroll").scrollTop')).toBe(0); // who reads back is left there
  await page.setViewportSize({ width: 1_100, height: 720 });
  await picture(page, "7-dark");
});

test("under a finger the messages get the room: a header of one row, no keyboard unasked, no word about keys", async () => {
  const page = await stage.openPage("", { width: 390, height: 844 });
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Emulation.setTouchEmulationEnabled", { enabled: true });
  await page.reload();
  await page.waitForSelector('#link[data-state="up"]');
  expect(await page.evaluate('matchMedia("(pointer: coarse)").matches')).toBe(true);
  await page.getByRole("button", { name: "hello", exact: true }).waitFor(); // all that begins has begun
  expect(await page.evaluate("document.activeElement.tagName")).toBe("BODY");
  expect(await page.locator("#hint").isVisible()).toBe(false);
  const tops = await page.$$eval("header > *", (parts) => parts.map((part) => part.getBoundingClientRect()));
  const [first, ...others] = tops;
  for (const other of others) expect(other.top).toBeLessThan(first!.bottom);
  await page.getByRole("button", { name: "New conversation" }).waitFor(); // its whole name, for who hears it
  await page.getByRole("combobox", { name: "Bot" }).waitFor();
});

test("the page is small and painted at once", async () => {
  const page = await stage.openPage();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  await devtools.send("Network.setCacheDisabled", { cacheDisabled: true });
  await page.reload();
  await page.waitForSelector('#link[data-state="up"]');
  const { paintMs, transferred } = await page.evaluate<{ paintMs: number; transferred: [string, number][] }>(`({
    paintMs: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    transferred: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
      .map((entry) => [new URL(entry.name).pathname, entry.transferSize]),
  })`);
  const bytes = transferred.reduce((sum, [, size]) => sum + size, 0);
  process.stdout.write(`first paint ${paintMs.toFixed(0)} ms, ${bytes} bytes\n`);
  const sizeOf = new Map(transferred);
  for (const file of ["/", "/chat.js", "/quick-replies.js", "/chat.css"])
    expect(sizeOf.get(file)).toBeGreaterThan(1_000);
  expect(paintMs).toBeLessThan(FIRST_PAINT_MS_MAX);
  expect(bytes).toBeLessThan(PAGE_BYTES_MAX);
});

/** The id of what has the focus, or the text of a button without one. */
const focused = (page: Page): Promise<string> =>
  page.evaluate<string>("document.activeElement.id || document.activeElement.textContent");

const quickRepliesOf = (page: Page): Promise<string[]> =>
  page.$$eval("#quick button", (buttons) => buttons.map((button) => button.textContent ?? ""));

async function postWeb(conversation: string, id: string, text: string): Promise<void> {
  const response = await fetch(`${stage.runtime.url}/channels/web/demo`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ conversation, id, text }),
  });
  expect(response.status).toBe(202);
}
