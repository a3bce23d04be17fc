// Runs the script's cases on pkcs11js or on pkcs11-ha, and prints the observations, a line of JSON a case.
//
//   node run.js pkcs11js|pkcs11-ha    request as JSON on standard input: { path, pin, only?, kill?, broken? }

import { writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cases } from './script.js';
import { Tester } from './tester.js';

const [, , side] = process.argv;
const require = createRequire(import.meta.url);
const api = side === 'pkcs11js' ? require('pkcs11js') : require('../../../dist/faces/pkcs11js/index.js');

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const request = JSON.parse(Buffer.concat(chunks).toString());

if (request.broken !== undefined) (await import('./broken.js')).breakOnPurpose(api, request.broken);

/** Writes a line; repeats the write while the pipe is full. */
function print(line) {
  let rest = Buffer.from(`${JSON.stringify(line)}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

const lib = new api.PKCS11();

function initialize() {
  if (lib.libPath === undefined) lib.load(request.path);
  try {
    lib.C_Initialize();
  } catch (error) {
    if (error.code !== api.CKR_CRYPTOKI_ALREADY_INITIALIZED) throw error;
  }
}

/** Runs one case; returns the number of its calls. */
async function perform(each, onCall, more = () => ({})) {
  const isBare = each.bare === true;
  if (!isBare) initialize();
  const slot = isBare ? undefined : lib.C_GetSlotList(true)[0];
  const tester = new Tester(isBare ? new api.PKCS11() : lib, api, { pin: request.pin, slot });
  tester.onCall = onCall;
  try {
    await each.run(tester);
  } catch (error) {
    tester.note(`the case itself threw ${error.message}`);
  }
  let state = [];
  if (!isBare) {
    try {
      state = tester.state();
    } catch (error) {
      state = [`cannot be read: ${error.message}`];
    }
  }
  print({ name: each.name, log: tester.log, state, calls: tester.calls, ...more(tester.calls) });
  return tester.calls;
}

const chosen = cases.filter(({ name }) => request.only === undefined || request.only.includes(name));
if (request.kill === undefined) {
  for (const each of chosen) await perform(each);
} else {
  // Repeats each case with a member killed before one call: the calls that `kill` names, or each call in turn.
  initialize();
  const { Killer } = await import('./killer.js');
  const killer = new Killer(request.path);
  for (const [index, each] of chosen.entries()) {
    if (each.bare === true || each.endsLibrary === true) continue;
    const places = request.kill[each.name];
    // Corrects the number of calls after each run: some calls depend on the success of earlier ones.
    let calls = places === undefined ? 1 : Math.max(...places) + 1;
    for (let at = 0; at < calls; at += 1) {
      if (places !== undefined && !places.includes(at)) continue;
      await killer.restored();
      const seen = { killed: false };
      const kill = (call) => {
        if (call === at) seen.killed = killer.kill(index + at);
      };
      // If the case made fewer calls with a member away, the chosen call was not made.
      const made = await perform(each, kill, (count) => ({ ...seen, isBeyond: count <= at }));
      if (places === undefined) calls = made;
    }
  }
}
try {
  lib.C_Finalize();
} catch {
  // Ignores that a case has finalized the library.
}
process.exit(0);
