import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const root = resolve(__dirname, '..');

/** Numbers of the rules that have a heading `## Rule N: name` in docs/rules.md. */
const listed = [...readFileSync(join(root, 'docs/rules.md'), 'utf8').matchAll(/^## Rule (\d+): \S/gmu)].map(
  ([, number]) => Number(number),
);

/** Rules by number, with the titles that begin with `[Rule N]`: of describe, it and test, also behind `each`. */
const titles = new Map<number, string[]>();
const testFiles = readdirSync(__dirname, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.test.ts'),
);
for (const name of testFiles) {
  const file = join(__dirname, name);
  if (file === __filename) continue;
  for (const [, number, title] of readFileSync(file, 'utf8').matchAll(/\(\s*['"`]\[Rule (\d+)\] ([^\n]+)/gu))
    titles.set(Number(number), [...(titles.get(Number(number)) ?? []), `${relative(root, file)}: ${title}`]);
}

describe('the rules of docs/rules.md', () => {
  it('are in the order of their numbers', () => {
    expect(listed.length).toBeGreaterThanOrEqual(17);
    expect(listed).toEqual([...new Set(listed)].sort((a, b) => a - b));
  });

  it.each(listed)('have a test that names them: rule %i', (number) => {
    expect(titles.get(number) ?? []).not.toEqual([]);
  });

  it('include every rule that a title names', () => {
    const unknown = [...titles].filter(([number]) => !listed.includes(number));
    expect(unknown).toEqual([]);
  });
});
