// Meal: an order on the chat page whose payment is interrupted by kill -9. The page tests check it, the picture shows
// it.

import type { Page } from "playwright-core";
import { afterCharge, newOrder, take } from "../../examples/food/order.ts";
import { until } from "../system/support/arena.ts";
import { linesOf, say } from "./browser.ts";
import type { Stage } from "./stage.ts";

/** Up to the question for a card. */
export const MEAL = ["hello", "2 margherita, 1 cola", "checkout", "12 Harbour Street, Dublin", "yes"];
export const CARD = "visa";

/** When the runtime is killed: the provider has not charged yet, or it has and the runtime does not know it. */
export type KillMoment = "before the charge" | "after the charge";

/**
 * The lines that the page shows when all `texts` are answered: a fold of the order's own steps.
 * @param receipts of the charges, in their order
 */
export function linesAfter(texts: readonly string[], receipts: readonly string[] = []): readonly string[] {
  const lines: string[] = [];
  let state = newOrder();
  let outSeq = 0;
  let charges = 0;
  texts.forEach((text, i) => {
    const taken = take(state, text);
    const done =
      "charge" in taken ? afterCharge(taken, { kind: "paid", receipt: receipts[charges++] ?? "no receipt" }) : taken;
    state = done.state;
    lines.push(`${text} | you · #${i + 1} · answered`);
    for (const reply of done.replies) lines.push(`${reply.text} | bot · #${++outSeq}`);
  });
  return lines;
}

/** Waits until the page shows exactly these lines. */
export async function shows(page: Page, lines: readonly string[], withinMs = 20_000): Promise<void> {
  await until(async () => JSON.stringify(await linesOf(page)) === JSON.stringify(lines), {
    what: `the lines\n${lines.join("\n")}`,
    withinMs,
    explain: async () => `there are\n${(await linesOf(page)).join("\n")}`,
  });
}

/** Presses what is offered, and types what is not. */
export async function orderMeal(page: Page): Promise<void> {
  for (const [i, text] of MEAL.entries()) {
    const offered = page.getByRole("group", { name: "Quick replies" }).getByRole("button", { name: text, exact: true });
    if ((await offered.count()) > 0) await offered.click();
    else await say(page, text);
    await shows(page, linesAfter(MEAL.slice(0, i + 1)));
  }
}

/**
 * Orders a meal and kills the runtime in the middle of the payment; the page has noticed it when this returns. The
 * runtime has to be one with slow payments.
 * @returns how often the provider has charged at that moment
 */
export async function killWhilePaying(stage: Stage, page: Page, moment: KillMoment): Promise<number> {
  const chargesBefore = stage.charges().length;
  await orderMeal(page);
  await page.getByRole("button", { name: CARD, exact: true }).click();
  await page.locator('#pending [data-state="durable"]').waitFor();
  if (moment === "after the charge") await stage.charged(chargesBefore + 1);
  await stage.runtime.kill();
  await page.getByRole("alert").getByText("Connection lost").waitFor();
  return stage.charges().length - chargesBefore;
}
