// Checks of the images: their size, that they do not run as root, and that no layer holds a secret.
import { deepEqual, ok } from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './run.js';

export const IMAGES = ['pkcs11-ha-hsm', 'pkcs11-ha-app'];

/** Returns the bytes that no image may contain: PINs, and the keys of clients and HSMs. */
function forbidden(secrets) {
  return readdirSync(secrets)
    .filter((name) => /_pin$|_key$/u.test(name))
    .map((name) => {
      const lines = readFileSync(join(secrets, name), 'utf8').trim().split('\n');
      return { name, bytes: Buffer.from(lines.length === 1 ? lines[0] : lines[1]) };
    });
}

/**
 * Unpacks the archive of `docker save`; yields the image's configuration, then each layer with the list of its files.
 */
async function* layersOf(image) {
  const folder = mkdtempSync(join(tmpdir(), 'pkcs11-ha-image-'));
  try {
    await run('sh', ['-c', 'docker save "$1" | tar -xf - -C "$2"', 'sh', image, folder]);
    const { 0: manifest } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
    yield { name: 'the configuration', read: async () => readFileSync(join(folder, manifest.Config)) };
    for (const layer of manifest.Layers) {
      const path = join(folder, layer);
      yield { name: layer.slice(0, 19), path, files: await run('tar', ['-tf', path]) };
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Returns the names of the secrets found in a layer's files, which `tar` prints one after the other. */
async function findIn(path, secrets) {
  const child = spawn('tar', ['-xOf', path], { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = once(child, 'close');
  const longest = Math.max(...secrets.map(({ bytes }) => bytes.length));
  const found = new Set();
  let rest = Buffer.alloc(0);
  for await (const chunk of child.stdout) {
    const all = Buffer.concat([rest, chunk]);
    for (const { name, bytes } of secrets) if (all.includes(bytes)) found.add(name);
    rest = all.subarray(Math.max(0, all.length - longest));
  }
  await ended;
  return [...found];
}

/** Checks an image; returns its size in MB with that of its base image, its number of layers, and its user. */
export async function inspect(image, secrets) {
  const [{ Config: config, Size: size }] = JSON.parse(await run('docker', ['image', 'inspect', image]));
  ok(config.User !== '' && config.User !== 'root' && config.User !== '0', `${image} runs as root`);
  const wanted = forbidden(secrets);
  let layers = 0;
  for await (const layer of layersOf(image)) {
    layers += 1;
    if (layer.path === undefined) {
      const text = await layer.read();
      deepEqual(
        wanted.filter(({ bytes }) => text.includes(bytes)).map(({ name }) => name),
        [],
        `${image}: ${layer.name} contains a secret`,
      );
      continue;
    }
    const suspicious = layer.files
      .split('\n')
      .filter((file) => /(^|\/)run\/secrets\/.|_pin$|_key$|\.key$|(^|\/)\.npmrc$/u.test(file));
    deepEqual(suspicious, [], `${image}: layer ${layer.name} has files that look like secrets`);
    deepEqual(await findIn(layer.path, wanted), [], `${image}: layer ${layer.name} contains a secret`);
  }
  return { image, megabytes: Math.round(size / 1e6), layers, user: config.User };
}
