// Paper shop: the world outside of the payment steps, which tells what it is asked for. It does what it is asked once
// for each key.

import type { Charge, Shop } from "../../../examples/payment-steps.ts";

export type Deed = keyof Shop;

export class PaperShop implements Shop {
  /** Of each deed, how often it was done; asking again under the same key does nothing more. */
  readonly done = new Map<Deed, number>();
  hasPrices = true;
  acceptsCards = true;
  readonly #say: (line: string) => void;
  readonly #keys: string[] = [];
  readonly #doneKeys = new Set<string>();
  readonly #lost = new Set<Deed>();
  readonly #refusals = new Map<Deed, number>();

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  /** The next answer never comes, though the deed is done. */
  loseAnswer(deed: Deed): void {
    this.#lost.add(deed);
  }

  /** The next so many requests are refused. */
  refuse(deed: Deed, requests: number): void {
    this.#refusals.set(deed, requests);
  }

  async reserve({ key, count, item }: { key: string; count: number; item: string }): Promise<{ cents: number } | null> {
    const what = `reserve ${count} ${item}`;
    if (this.hasPrices) return await this.#do("reserve", what, key, { cents: count * 1_200 });
    this.#say(`the shop is asked to ${what}, key ${this.#number(key)}: it has no price`);
    return null;
  }

  charge({ key, cents }: { key: string; cents: number }): Promise<Charge> {
    const paid: Charge = { kind: "paid", receipt: `R${this.#number(key)}` };
    return this.#do("charge", `charge ${cents} cents`, key, this.acceptsCards ? paid : { kind: "declined" });
  }

  ship({ key }: { key: string }): Promise<{ parcel: string }> {
    return this.#do("ship", "ship them", key, { parcel: `P${this.#number(key)}` });
  }

  release({ key }: { key: string }): Promise<void> {
    return this.#do("release", "put them back", key, undefined);
  }

  async #do<Answer>(deed: Deed, what: string, key: string, answer: Answer): Promise<Answer> {
    const request = `the shop is asked to ${what}, key ${this.#number(key)}`;
    const refusals = this.#refusals.get(deed) ?? 0;
    if (refusals > 0) {
      this.#refusals.set(deed, refusals - 1);
      this.#say(`${request}: not now`);
      throw new Error(`the shop does not ${deed} now`);
    }
    const isRepeat = this.#doneKeys.has(key);
    if (!isRepeat) this.done.set(deed, (this.done.get(deed) ?? 0) + 1);
    this.#doneKeys.add(key);
    if (this.#lost.delete(deed)) {
      this.#say(`${request}: done, and the answer gets lost`);
      return await new Promise(() => undefined);
    }
    this.#say(`${request}: ${isRepeat ? "was done before, the same answer" : "done"}`);
    return answer;
  }

  /** Keys are long; what counts is which are the same. */
  #number(key: string): number {
    if (!this.#keys.includes(key)) this.#keys.push(key);
    return this.#keys.indexOf(key) + 1;
  }
}
