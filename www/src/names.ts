const ADJECTIVES = [
  "Amber", "Bold", "Calm", "Clever", "Coral", "Drowsy", "Eager", "Gentle", "Lucky", "Merry", "Nimble", "Patient",
  "Quiet", "Salty", "Silver", "Sunny", "Swift", "Tidy", "Wandering", "Windy",
];
const ANIMALS = [
  "Auk", "Cormorant", "Crab", "Dolphin", "Eider", "Grebe", "Gull", "Heron", "Limpet", "Narwhal", "Octopus", "Otter",
  "Pelican", "Petrel", "Puffin", "Seal", "Starfish", "Tern", "Turtle", "Urchin",
];
const KEPT = "moorline.name";

/** This window's name. Kept for the window, not for the browser: two windows are two people. */
export function ownName(): string {
  return sessionStorage.getItem(KEPT) ?? keepName(`${pick(ADJECTIVES)} ${pick(ANIMALS)}`);
}

/**
 * This browser's name where what one wrote may wait for the next window, which sends it as nobody else: kept for the
 * browser, so that two windows are one person.
 */
export function writersName(): string {
  return (localStorage[KEPT] ??= ownName());
}

export function keepName(name: string): string {
  sessionStorage.setItem(KEPT, name);
  return name;
}

function pick(words: readonly string[]): string {
  return words[Math.floor(Math.random() * words.length)]!;
}
