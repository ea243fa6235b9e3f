// Menu: what the kitchen makes and for how much. Money is whole cents everywhere, since 0.1 + 0.2 is not 0.3.

export interface Dish {
  /** Stands in stored carts: never rename or reuse one. */
  readonly id: string;
  readonly name: string;
  readonly priceCents: number;
}

export const MENU: readonly Dish[] = [
  { id: "margherita", name: "Margherita", priceCents: 850 },
  { id: "funghi", name: "Funghi", priceCents: 950 },
  { id: "diavola", name: "Diavola", priceCents: 1_050 },
  { id: "tiramisu", name: "Tiramisu", priceCents: 450 },
  { id: "cola", name: "Cola", priceCents: 250 },
  { id: "water", name: "Water", priceCents: 200 },
];

/** A shorter beginning of a name is too likely to be another word. */
const PREFIX_LENGTH_MIN = 4;

/** The dish that `text` names, in any case: whole, in the plural, with "pizza" before it, or by its beginning. */
export function dishNamed(text: string): Dish | undefined {
  const name = text
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/^(?:pizzas?|glass of|bottle of) | pizzas?$/g, "")
    .trim();
  const whole = MENU.find(({ id }) => name === id || name === `${id}s`);
  if (whole !== undefined || name.length < PREFIX_LENGTH_MIN) return whole;
  const beginning = MENU.filter(({ id }) => id.startsWith(name));
  return beginning.length === 1 ? beginning[0] : undefined;
}

/** 1950 -> "€19.50". @param cents a safe integer >= 0 */
export const euros = (cents: number): string => `€${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, "0")}`;

export const menuText = (): string =>
  ["Menu", ...MENU.map(({ name, priceCents }) => `${name} ${euros(priceCents)}`)].join("\n");
