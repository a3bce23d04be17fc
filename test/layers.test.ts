import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const root = resolve(__dirname, '..');
const source = join(root, 'src');

/** The folders of src/core from the ground up: each imports itself and those before it. */
const floors = [
  'base',
  'configuration',
  'objects',
  'records',
  'group',
  'jobs',
  'joining',
  'replicas',
  'call',
  'wrapping',
  'replication',
  'recovery',
  'health',
  'administration',
  'pin',
  'backup',
  'sessions',
  'status',
];

const layers = ['spec', 'core', 'runtime', 'faces', 'bin'];

interface Import {
  readonly from: string;
  readonly to: string;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return filesBelow(path);
    return name.endsWith('.ts') ? [path] : [];
  });
}

/** Every import and re-export between files of src, of values and of types alike, as paths below src. */
function importsOf(file: string): Import[] {
  const found = readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)\.js'/gu);
  return [...found].map(([, path = '']) => ({
    from: relative(source, file),
    to: relative(source, `${resolve(file, '..', path)}.ts`),
  }));
}

const files = filesBelow(source);
const imports = files.flatMap(importsOf);

describe('the layers of src', () => {
  it('are known, every one', () => {
    const found = readdirSync(source).filter((name) => statSync(join(source, name)).isDirectory());
    expect(found.filter((name) => !layers.includes(name))).toEqual([]);
  });

  it('import the layers before them only', () => {
    const layerOf = (path: string): number => layers.indexOf(path.split('/')[0] ?? '');
    const upward = imports.filter(({ from, to }) => layerOf(from) >= 0 && layerOf(to) > layerOf(from));
    expect(upward).toEqual([]);
  });
});

describe('the folders of src/core', () => {
  const floorOf = (path: string): number => floors.indexOf(path.split('/')[1] ?? '');
  const inCore = imports.filter(({ from, to }) => from.startsWith('core/') && to.startsWith('core/'));

  it('are those of the list, and no file stands outside of them', () => {
    expect(readdirSync(join(source, 'core')).sort()).toEqual([...floors].sort());
  });

  it('are read: there are imports between them', () => {
    expect(inCore.filter(({ from, to }) => floorOf(from) > floorOf(to)).length).toBeGreaterThan(500);
  });

  it('import themselves and the folders before them, values and types alike', () => {
    expect(inCore.filter(({ from, to }) => floorOf(to) > floorOf(from))).toEqual([]);
  });
});

describe('the files of src', () => {
  it('form no circle of imports, types included', () => {
    const next = new Map<string, string[]>();
    for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, way: readonly string[]): void => {
      if (way.includes(path)) circles.push([...way.slice(way.indexOf(path)), path].join(' > '));
      if (way.includes(path) || done.has(path)) return;
      for (const each of next.get(path) ?? []) visit(each, [...way, path]);
      done.add(path);
    };
    for (const path of next.keys()) visit(path, []);
    expect(circles).toEqual([]);
  });
});
