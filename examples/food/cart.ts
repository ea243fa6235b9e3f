// Cart: the dishes of an order that is not paid yet.
//
// Invariants
//   C1. One line for each dish, in the order in which they were first added; 1 to QUANTITY_MAX of each.
//   C2. A line keeps the price at which its dish was added. So a turn that runs again after an update of the menu asks
//       the payment provider for the same amount as before.

import { type Dish, euros } from "./menu.ts";

export const QUANTITY_MAX = 20;

// A type, not an interface: only types without a name of their own pass as plain data.
export type CartLine = {
  readonly dish: string;
  readonly name: string;
  readonly quantity: number;
  /** Of one. */
  readonly priceCents: number;
};

export type Cart = readonly CartLine[];

export interface Item {
  readonly dish: Dish;
  /** Undefined where none was named: one to add, all to remove. */
  readonly quantity: number | undefined;
}

export type CartChange =
  | { readonly kind: "changed"; readonly cart: Cart }
  | { readonly kind: "quantity-out-of-bounds"; readonly dish: Dish }
  | { readonly kind: "not-in-cart"; readonly dish: Dish };

/** All items or none of them. */
export function withItems(cart: Cart, items: readonly Item[]): CartChange {
  return changed(cart, items, (lines, { dish, quantity: added = 1 }) => {
    const line = lines.find((each) => each.dish === dish.id);
    const quantity = (line?.quantity ?? 0) + added;
    if (added < 1 || quantity > QUANTITY_MAX) return { kind: "quantity-out-of-bounds", dish }; // C1
    if (line) return { kind: "changed", cart: lines.map((each) => (each === line ? { ...line, quantity } : each)) };
    const { id, name, priceCents } = dish;
    return { kind: "changed", cart: [...lines, { dish: id, name, quantity, priceCents }] }; // C2
  });
}

/** All items or none of them. More of a dish than there is removes its line. */
export function withoutItems(cart: Cart, items: readonly Item[]): CartChange {
  return changed(cart, items, (lines, { dish, quantity: removed = QUANTITY_MAX }) => {
    const line = lines.find((each) => each.dish === dish.id);
    if (!line) return { kind: "not-in-cart", dish };
    if (removed < 1) return { kind: "quantity-out-of-bounds", dish };
    const quantity = line.quantity - removed;
    if (quantity < 1) return { kind: "changed", cart: lines.filter((each) => each !== line) };
    return { kind: "changed", cart: lines.map((each) => (each === line ? { ...line, quantity } : each)) };
  });
}

function changed(cart: Cart, items: readonly Item[], change: (cart: Cart, item: Item) => CartChange): CartChange {
  let lines = cart;
  for (const item of items) {
    const next = change(lines, item);
    if (next.kind !== "changed") return next;
    lines = next.cart;
  }
  return { kind: "changed", cart: lines };
}

export const lineCents = ({ quantity, priceCents }: CartLine): number => quantity * priceCents;

export const totalCents = (cart: Cart): number => cart.reduce((sum, line) => sum + lineCents(line), 0);

/** "2 x Margherita, 1 x Cola" */
export const dishesOf = (cart: Cart): string => cart.map(({ quantity, name }) => `${quantity} x ${name}`).join(", ");

export function cartText(cart: Cart): string {
  if (cart.length === 0) return "Your cart is empty.";
  const lines = cart.map((line) => `${line.quantity} x ${line.name} ${euros(lineCents(line))}`);
  return ["In your cart:", ...lines, `Total ${euros(totalCents(cart))}`].join("\n");
}
