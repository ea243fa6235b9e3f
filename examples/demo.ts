// Demo: orders pizza. Read on in food/order.ts (what is said), food/bot.ts (how that becomes a bot) and food/fake-payments.ts
// (who is paid). Kill the server in the middle of a payment: the order goes on, and the ledger has one charge.
//
// FAKE_PAYMENTS_FOLDER  where the payment provider keeps its ledger; default .data/fake-payments

import { foodBot } from "./food/bot.ts";
import { FakePayments } from "./food/fake-payments.ts";

export default foodBot(new FakePayments({ folder: process.env.FAKE_PAYMENTS_FOLDER ?? ".data/fake-payments" }));
