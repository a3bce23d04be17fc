/** Largest number of changed characters at which a name is taken for a slip of another one. */
const MOST_CHANGES = 2;
/** Longest name that is compared (characters). */
const LONGEST = 64;

/** Returns the number of characters to insert, remove or replace to make one text from another. */
function distanceOf(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [index, character] of [...one].entries()) {
    const next = [index + 1];
    for (let at = 1; at <= other.length; at += 1) {
      const replaced = (row[at - 1] ?? 0) + (other[at - 1] === character ? 0 : 1);
      next.push(Math.min(replaced, (row[at] ?? 0) + 1, (next[at - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}

/** Returns `(not 'lable'; did you mean 'label'?)` for a wrong name; without the question if no known name is close. */
export function insteadOf(name: string, known: readonly string[]): string {
  // Long names are no slips, and would take long to compare.
  if (name.length > LONGEST) return '';
  const measured = known.map((each) => ({ each, distance: distanceOf(name.toLowerCase(), each.toLowerCase()) }));
  const [best] = measured.sort((one, other) => one.distance - other.distance);
  const isClose = best !== undefined && best.distance <= Math.min(MOST_CHANGES, best.each.length - 1);
  return isClose ? `(not '${name}'; did you mean '${best.each}'?)` : `(not '${name}')`;
}
