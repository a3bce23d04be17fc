// A library's checks, three times: with all members there, with the first one's host killed, and with the second one's.
const { readFileSync } = require('node:fs');

// In milliseconds.
const PATIENCE = 30_000;

/** The hosts are this process's only children; lowest first. */
function hosts() {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8');
  return children
    .split(' ')
    .filter((each) => each.trim() !== '')
    .map(Number)
    .sort((a, b) => a - b);
}

/** `module`: of graphene-pk11, with the slots of two members beside the group's. */
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
    // Whoever is spared is the only one left: it has to know all that happened in the round before.
    await untilServing(module);
    spared = hosts().findLast((pid) => pid !== spared);
    for (const [name, check] of Object.entries(checks)) {
      // The one that is to be killed is killed again as often as it serves again. Not on its way there: a SoftHSM
      // that is killed inside of a login has lost its token for good.
      if (round !== 'all there' && allServe(module))
        for (const pid of hosts()) if (pid !== spared) process.kill(pid, 'SIGKILL');
      await check(...args);
      console.log(`${round}: ${name}`);
    }
  }
}

module.exports = { runRounds };
