// Page picture: makes docs/images/after-kill.png, the chat page after a kill -9 in the middle of a payment. The steps
// are those of the page test (test/page/meal.ts), so the picture shows what is tested.
//
// Usage: npm run picture

import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { createJiti } from "jiti";

const FILE = fileURLToPath(new URL("../docs/images/after-kill.png", import.meta.url));
const PICTURE_BYTES_MAX = 200_000;
const PAGE = { width: 960, height: 720 };
const SCALE = 1.25;

const jiti = createJiti(import.meta.url, { fsCache: false });
const { Stage } = await jiti.import("../test/page/stage.ts");
const { CARD, killWhilePaying, linesAfter, MEAL, shows } = await jiti.import("../test/page/meal.ts");

const stage = await Stage.open("picture", { scale: SCALE, slowPayments: true });
try {
  const page = await stage.openPage("", PAGE);
  await killWhilePaying(stage, page, "after the charge");
  await stage.startAgain();
  const lines = linesAfter(
    [...MEAL, CARD],
    stage.charges().map(({ receipt }) => receipt),
  );
  await shows(page, lines);
  await page.getByText("went on.").waitFor();
  await page.locator("#r-state").getByText('"ordersPaid": 1').waitFor();
  await page.mouse.move(0, 0);
  mkdirSync(dirname(FILE), { recursive: true });
  await page.screenshot({ path: FILE });
} finally {
  await stage.close();
}

const { size } = statSync(FILE);
console.log(`${FILE}: ${size} bytes`);
if (size > PICTURE_BYTES_MAX) throw new Error(`the picture is larger than ${PICTURE_BYTES_MAX} bytes; make it smaller`);
