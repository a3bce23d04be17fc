// Small service for tests, in a process or a worker of its own: `service.js MODE CONFIGURATION`.
import { parentPort, workerData } from 'node:worker_threads';
import { VirtualToken } from '../../../dist/index.js';
import { prepare, run } from './operations.js';

const [mode, configuration] = workerData ?? [process.argv[2], JSON.parse(process.argv[3])];
const tell = (message) =>
  parentPort === null ? process.stdout.write(`${JSON.stringify(message)}\n`) : parentPort.postMessage(message);

if (mode.startsWith('administer:')) {
  // Changes the membership on a signal; `add` opens the group without the new member.
  const [, operation, name] = mode.split(':');
  const member = configuration.members.find((each) => each.name === name);
  const without = { ...configuration, members: configuration.members.filter((each) => each.name !== name) };
  const opened = await VirtualToken.open(operation === 'add' ? without : configuration);
  tell({ ready: true });
  await new Promise((resolve) => process.stdin.once('data', resolve));
  if (operation === 'add') await opened.addMember(member);
  else await opened.removeMember(name);
  process.exit(0);
}
if (mode === 'come back') {
  // Opens the group on a signal, which makes a member catch up.
  tell({ ready: true });
  await new Promise((resolve) => process.stdin.once('data', resolve));
  const opened = await VirtualToken.open(configuration);
  const isThere = () => opened.status().members.every(({ state }) => state === 'active');
  if (!isThere()) await new Promise((resolve) => opened.on('member', () => isThere() && resolve()));
  process.exit(0);
}

const token = await VirtualToken.open(configuration);
if (mode.startsWith('change:')) {
  // Makes a change on a signal.
  const [, operation, label] = mode.split(':');
  const prepared = await prepare(token, operation, label);
  tell({ ready: true });
  await new Promise((resolve) => process.stdin.once('data', resolve));
  await run(token, operation, label, prepared);
  process.exit(0);
}
if (mode === 'ensure') {
  // Ensures three keys on a signal, and tells their handles.
  tell({ ready: true });
  await new Promise((resolve) => process.stdin.once('data', resolve));
  const handles = [];
  for (const label of ['a', 'b', 'c'])
    handles.push((await token.ensureKey(label, 'AES_KEY_GEN', { valueLen: 32, encrypt: true })).handle);
  tell({ handles });
  await token.close();
  process.exit(0);
}
if (mode === 'upgrade') {
  // Upgrades the group on a signal.
  tell({ ready: true });
  await new Promise((resolve) => process.stdin.once('data', resolve));
  await token.upgradeGroup();
  process.exit(0);
}
if (mode === 'hold') {
  // Holds the group open, and carries out the commands that it reads: `change FILE` changes the PIN to that of a file,
  // `close` closes the group, `open` opens it again. The process stays.
  let held = token;
  const isWell = () => held.status().members.every(({ state }) => state === 'active' || state === 'down');
  while (!isWell()) await new Promise((resolve) => setTimeout(resolve, 10));
  tell({ pids: held.status().members.flatMap(({ pid }) => pid ?? []) });
  process.stdin.setEncoding('utf8');
  let text = '';
  for await (const part of process.stdin) {
    text += part;
    if (!text.endsWith('\n')) continue;
    const [command, file] = text.trim().split(' ');
    text = '';
    if (command === 'change') await held.changePin({ file });
    if (command === 'close') await held.close();
    if (command === 'open') held = await VirtualToken.open(configuration);
    tell({ done: command });
  }
}
if (mode === 'pin') {
  // Changes the PIN to the one that it reads.
  tell({ ready: true });
  const pin = await new Promise((resolve) => process.stdin.once('data', (data) => resolve(data.toString().trim())));
  await token.changePin(pin);
  process.exit(0);
}
if (/^(backup|restore):/u.test(mode)) {
  // Backs up to a token, or restores from it, on a signal.
  const [what] = mode.split(':', 1);
  tell({ ready: true });
  await new Promise((resolve) => process.stdin.once('data', resolve));
  await token[what](JSON.parse(mode.slice(what.length + 1)));
  process.exit(0);
}
const pids = token.status().members.map(({ pid }) => pid);
const [key] = await token.find({ label: 'rsa', class: 'PRIVATE_KEY' });
const sign = () => token.sign('SHA256_RSA_PKCS', key, 'data');

switch (mode) {
  case 'handles': {
    const found = await token.find();
    tell({
      handles: Object.fromEntries(
        found.map((object) => [`${object.class} ${object.label} ${object.id.toString('hex')}`, object.handle]),
      ),
    });
    await token.close();
    break;
  }
  // Ends without closing anything.
  case 'end':
    tell({ pids, signature: (await sign()).toString('hex') });
    break;
  // Exits in the middle of calls.
  case 'exit': {
    const calls = Array.from({ length: 4 }, sign);
    for (const call of calls) call.catch(() => {});
    tell({ pids });
    process.exit(7);
    break;
  }
  // Works until it is killed.
  case 'work':
    await Promise.all(Array.from({ length: 4 }, sign));
    tell({ pids });
    for (;;) await Promise.all(Array.from({ length: 4 }, sign));
  default:
    throw new Error(`unknown mode ${mode}`);
}
