// Demo: orders pizza. Read on in food/order.ts (what is said), food/bot.ts (how that becomes a bot) and
// food/fake-payments.ts (who is paid). Kill the server in the middle of a payment: the order goes on, and the ledger
// has one charge.
//
// FAKE_PAYMENTS_FOLDER    where the payment provider keeps its ledger; default .data/fake-payments
// FAKE_PAYMENTS_DELAY_MS  how long a charge takes, 0 to 20,000; default 1,500. More leaves more time for a kill

import { foodBot } from "./food/bot.ts";
import { FakePayments } from "./food/fake-payments.ts";

const { FAKE_PAYMENTS_FOLDER: folder = ".data/fake-payments", FAKE_PAYMENTS_DELAY_MS: delayMs = "1500" } = process.env;

export default foodBot(new FakePayments({ folder, delayMs: Number(delayMs) }));
