/** The element of this id, which `index.html` has. */
export function element<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found as E;
}

/** A new element. Texts are only ever set as text, so that nobody's message becomes markup. */
export function make<T extends keyof HTMLElementTagNameMap>(
  tag: T,
  className = "",
  ...children: (Node | string)[]
): HTMLElementTagNameMap[T] {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Somebody's name, set apart from the text around it: it may run in the other direction. */
export function nameTag(name: string): HTMLElement {
  return paint(make("bdi", "name", name), name);
}

/** Gives an element the colour of a name. It depends on the name alone, so it survives a reconnect. */
export function paint<E extends HTMLElement>(target: E, name: string): E {
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)!) >>> 0;
  target.style.setProperty("--hue", String((hash % 24) * 15));
  return target;
}
