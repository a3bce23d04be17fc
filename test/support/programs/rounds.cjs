// Runs a library's checks three times: with all members, with the first member's host killed, and with the second's.
const { readFileSync } = require('node:fs');

/** Limit of a wait for all members (ms). */
const PATIENCE = 30_000;

/** Returns the process ids of the hosts, which are this process's only children, lowest first. */
function hosts() {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8');
  return children
    .split(' ')
    .filter((each) => each.trim() !== '')
    .map(Number)
    .sort((a, b) => a - b);
}

/** Returns true if both members serve; `module` is graphene-pk11's, with a slot for the group and for each member. */
const allServe = (module) => module.getSlots(true).length === 3;

async function untilServing(module) {
  const patience = Date.now() + PATIENCE;
  while (!allServe(module)) {
    if (Date.now() > patience) throw new Error(`of all slots only ${module.getSlots(true).length} have a token`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Runs each of `checks` with `args`, and prints its name when it has passed. */
async function runRounds(module, checks, ...args) {
  let spared;
  for (const round of ['all there', 'the first one killed', 'the second one killed']) {
    // Waits for both members, since the spared member must have all changes of the round before.
    await untilServing(module);
    spared = hosts().findLast((pid) => pid !== spared);
    for (const [name, check] of Object.entries(checks)) {
      // Kills the other member's host again whenever it serves again, but not on its way there: a SoftHSM that is
      // killed inside a login loses its token.
      if (round !== 'all there' && allServe(module))
        for (const pid of hosts()) if (pid !== spared) process.kill(pid, 'SIGKILL');
      await check(...args);
      console.log(`${round}: ${name}`);
    }
  }
}

module.exports = { runRounds };
