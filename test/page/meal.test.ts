// A meal ordered on the chat page, in a real browser, with the runtime killed in the middle of the payment.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Arena, PROJECT_ROOT, until } from "../system/support/arena.ts";
import { linesOf, picture, say, seamsOf } from "./browser.ts";
import { CARD, type KillMoment, killWhilePaying, linesAfter, MEAL, orderMeal, shows } from "./meal.ts";
import { Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open("meal", { slowPayments: true });
}, 60_000);
afterAll(() => stage?.close(), 60_000);
afterEach(async () => {
  for (const page of stage.browser.pages()) await page.close();
  expect(stage.complaints.splice(0)).toEqual([]);
});

const moments: readonly (readonly [KillMoment, number])[] = [
  ["before the charge", 0],
  ["after the charge", 1],
];

test.each(moments)("killed %s: the order goes on, no line twice, charged once", async (moment, chargesAtKill) => {
  await stage.runtime.kill();
  await stage.startAgain({ slowPayments: true });
  const before = stage.charges();
  const first = await stage.openPage();
  const second = await stage.openPage(await first.evaluate<string>("location.hash"));

  expect(await killWhilePaying(stage, first, moment)).toBe(chargesAtKill);
  expect(await linesOf(first)).toEqual(linesAfter(MEAL));
  await picture(first, `meal-killed-${moment.replaceAll(" ", "-")}`);
  await stage.startAgain();

  await until(async () => (await linesOf(first)).length > linesAfter(MEAL).length + 1, {
    what: "the confirmation",
    withinMs: 20_000,
    explain: () => stage.runtime.lastWords(),
  });
  const charges = stage.charges();
  expect(charges).toHaveLength(before.length + 1);
  const { receipt, amountCents } = charges.at(-1)!;
  expect(amountCents).toBe(1_950);
  const paid = linesAfter([...MEAL, CARD], [receipt]);
  for (const page of [first, second]) {
    await shows(page, paid);
    await page.getByText(`process ${stage.runtime.pid} went on.`).waitFor();
    expect(await seamsOf(page)).toEqual([MEAL.length * 2 + 1]); // between the card and the confirmation
  }
  await picture(first, `meal-paid-${moment.replaceAll(" ", "-")}`);
  expect(await first.locator("#pending").textContent()).toBe("");

  await say(second, "water");
  for (const page of [first, second]) await shows(page, linesAfter([...MEAL, CARD, "water"], [receipt]));
  await first.reload();
  await shows(first, linesAfter([...MEAL, CARD, "water"], [receipt]));
  expect(stage.charges()).toHaveLength(before.length + 1);
});

test("an answer of the provider that is lost is asked for again, and charged once", async () => {
  await stage.runtime.kill();
  await stage.startAgain();
  const before = stage.charges().length;
  const page = await stage.openPage();
  await orderMeal(page);
  await page.getByRole("button", { name: "flaky" }).click();
  await page.getByText("charged once to flaky (ends in 7777)").waitFor();
  const charges = stage.charges();
  expect(charges).toHaveLength(before + 1);
  await shows(page, linesAfter([...MEAL, "flaky"], [charges.at(-1)!.receipt]));
});

test.each(["light", "dark"] as const)(
  "on a phone, %s, a meal is ordered by pressing what is offered",
  async (colorScheme) => {
    await stage.runtime.kill();
    await stage.startAgain();
    const page = await stage.openPage("", { width: 360, height: 740, colorScheme });
    await orderMeal(page);
    await picture(page, `meal-phone-${colorScheme}`);
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(360);
    const sizes = await page.$$eval("#quick button", (buttons) =>
      buttons.map((button) => button.getBoundingClientRect().height),
    );
    for (const height of sizes) expect(height).toBeGreaterThanOrEqual(40);
  },
);

test("of several bots one is chosen, and what a bot offers is text, little, and in reason", async () => {
  const arena = new Arena("page-bots");
  const file = arena.path("bots.ts");
  const offered = ["<b onclick=alert(1)>bold</b>", 5, "x".repeat(61), "two\nlines", "fine", "fine"];
  writeFileSync(
    file,
    `import { defineBot } from "colloquy";
     import demo from ${JSON.stringify(join(PROJECT_ROOT, "examples/demo.ts"))};
     import echo from ${JSON.stringify(join(PROJECT_ROOT, "examples/echo.ts"))};
     const odd = defineBot({
       name: "odd",
       version: 1,
       initialState: () => null,
       onMessage(state, message, ctx) {
         ctx.reply({ text: "<i>odd</i>", data: { html: "<u>data</u>", suggestions: ${JSON.stringify(offered)} } });
         return state;
       },
     });
     export default [demo, echo, odd];
    `,
  );
  const several = await Stage.open("page-several", { bot: file });
  try {
    const page = await several.openPage();
    const bots = page.getByRole("combobox", { name: "Bot" });
    expect(await bots.locator("option").allTextContents()).toEqual(["demo", "echo", "odd"]);
    expect(await bots.inputValue()).toBe("demo");
    await say(page, "1 cola");
    await shows(page, linesAfter(["1 cola"]));
    const ofDemo = await page.evaluate<string>("location.hash");

    await bots.selectOption("echo");
    await page.waitForURL(/#echo\//);
    await shows(page, []);
    await say(page, "1 cola");
    await shows(page, ["1 cola | you · #1 · answered", "1 cola | bot · #1"]);
    expect(await page.locator("#quick button").count()).toBe(0);

    await bots.selectOption("odd");
    await page.waitForURL(/#odd\//);
    await say(page, "x");
    await shows(page, ["x | you · #1 · answered", "<i>odd</i> | bot · #1"]);
    expect(await page.locator("#quick button").allTextContents()).toEqual(["<b onclick=alert(1)>bold</b>", "fine"]);
    expect(await page.locator("#quick b, #log i, u").count()).toBe(0);
    expect(await page.textContent("#log")).not.toContain("data");

    await page.evaluate(`location.hash = ${JSON.stringify(ofDemo)}`);
    await shows(page, linesAfter(["1 cola"]));
    expect(await bots.inputValue()).toBe("demo");
    expect(several.complaints).toEqual([]);
  } finally {
    await several.close();
    await arena.cleanUp();
  }
});
