import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';

test('the map of the code names every file of core, and none that is not there', () => {
  const files = readdirSync(new URL('../../src/core', import.meta.url)).map((name) => name.replace(/\.ts$/u, ''));
  const map = readFileSync(new URL('../../ARCHITECTURE.md', import.meta.url), 'utf8');
  const core = map.slice(map.indexOf('- `src/core/`'), map.indexOf('- `src/runtime/`'));
  const named = [...core.matchAll(/^ {2}- [^`]*((?:`[^`]*`[^`\n]*)+(?:\n {4}.*)*)/gmu)].flatMap(([, list = '']) =>
    [...list.matchAll(/`([^`]*)`/gu)].flatMap(([, names = '']) => names.split(/\s+/u)),
  );
  expect(named.sort()).toEqual(files.sort());
});
