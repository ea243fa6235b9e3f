// Stage: a runtime with the demo bot and a browser before it, for the page tests and for the picture in the documents.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { type Charge, LEDGER_FILE, readLedger } from "../../examples/food/fake-payments.ts";
import { Arena, freePort, PROJECT_ROOT, until } from "../system/support/arena.ts";
import { RuntimeProcess } from "../system/support/runtime-process.ts";
import { openBrowser } from "./browser.ts";

export interface PageOptions {
  readonly width?: number;
  readonly height?: number;
  readonly colorScheme?: "light" | "dark";
}

export interface StageOptions {
  /** Path of the bots' file. */
  readonly bot?: string;
  /** Pixels of a picture for each pixel of the page. */
  readonly scale?: number;
  readonly slowPayments?: boolean;
}

/** How long a charge takes, ms. A slow one leaves half of it for a kill on either side of the line in the ledger. */
const CHARGE_MS = { usual: 0, slow: 10_000 };

export class Stage {
  readonly arena: Arena;
  /** Of every page: what should never be there. */
  readonly complaints: string[] = [];
  runtime: RuntimeProcess;
  browser!: BrowserContext;
  readonly #port: number;
  readonly #bot: string;

  private constructor(arena: Arena, port: number, bot: string, slowPayments: boolean) {
    this.arena = arena;
    this.#port = port;
    this.#bot = bot;
    this.runtime = this.#spawn(slowPayments);
  }

  /** To be closed by whoever opened it; if this throws, nothing is left. */
  static async open(name: string, { bot, scale = 1, slowPayments = false }: StageOptions = {}): Promise<Stage> {
    const arena = new Arena(name);
    try {
      const file = bot ?? join(PROJECT_ROOT, "examples/demo.ts");
      const stage = new Stage(arena, await freePort(), file, slowPayments);
      await stage.runtime.ready();
      stage.browser = await openBrowser(arena, scale);
      return stage;
    } catch (error) {
      await arena.cleanUp();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.arena.cleanUp();
  }

  /** After the end of the runtime. @param slowPayments so that one can be interrupted */
  async startAgain({ slowPayments = false } = {}): Promise<void> {
    this.runtime = this.#spawn(slowPayments);
    await this.runtime.ready();
  }

  #spawn(slowPayments: boolean): RuntimeProcess {
    const chargeMs = slowPayments ? CHARGE_MS.slow : CHARGE_MS.usual;
    const env = { FAKE_PAYMENTS_FOLDER: this.arena.path("payments"), FAKE_PAYMENTS_DELAY_MS: String(chargeMs) };
    return new RuntimeProcess(this.arena, {
      port: this.#port,
      data: this.arena.dataFolder("data"),
      bot: this.#bot,
      env,
    });
  }

  async openPage(hash = "", { width = 1_100, height = 720, colorScheme = "light" }: PageOptions = {}): Promise<Page> {
    const page = await this.browser.newPage();
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("dialog", (dialog) => {
      this.complaints.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.goto(`${this.runtime.url}/${hash}`);
    await page.waitForSelector('#link[data-state="up"]');
    return page;
  }

  /** What the payment provider has charged. */
  charges(): readonly Charge[] {
    const file = join(this.arena.path("payments"), LEDGER_FILE);
    return existsSync(file) ? readLedger(readFileSync(file), file).charges : [];
  }

  async charged(count: number): Promise<void> {
    await until(() => this.charges().length === count, { what: `${count} charges`, withinMs: 20_000 });
  }
}
