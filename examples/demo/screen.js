// Output of the demo: a line for each event, and on a terminal a live line below.
const colors = { active: 32, standby: 36, suspect: 33, joining: 33, down: 31 };

export class Screen {
  #live;
  #quiet;
  #line = '';
  #timer;
  #started = performance.now();

  constructor({ live, quiet }) {
    this.#live = live;
    this.#quiet = quiet;
  }

  say(text) {
    if (this.#quiet) return;
    const time = `${((performance.now() - this.#started) / 1000).toFixed(2).padStart(6)} s  `;
    this.#erase();
    process.stdout.write(`${time}${text}\n`);
    this.#draw();
  }

  /** Shows the members' states, the rate and the failovers until `end`: live on a terminal, else one line a second. */
  watch(token, workload) {
    token.on('member', ({ member, from, to, reason }) => {
      this.say(`  ${member}: ${from} → ${to}${reason === '' ? '' : ` (${reason})`}`);
    });
    let last = { operations: 0, at: performance.now() };
    const show = () => {
      const now = { operations: workload.operations, at: performance.now() };
      const rate = ((now.operations - last.operations) * 1000) / (now.at - last.at);
      last = now;
      const { members, counters } = token.status();
      const states = members.map(({ name, state }) => `${name} ${this.#colored(state)}`).join('  ');
      const line = `${states}  ${rate.toFixed(0)} operations/s  ${counters.failovers} failovers  ${workload.failed} failed`;
      if (!this.#live) return this.say(`  ${line}`);
      this.#erase();
      this.#line = line;
      this.#draw();
    };
    this.#timer = setInterval(show, this.#live ? 100 : 1000);
  }

  end() {
    clearInterval(this.#timer);
    this.#erase();
    this.#line = '';
  }

  summarize({ operations, failed, wrong, failovers, latencyMs, metAFailureMs, longestMs }) {
    const { calls, median, longest } = metAFailureMs;
    process.stdout.write(`
  operations       ${operations}, each result checked with node:crypto
  failed           ${failed}
  wrong            ${wrong}
  failovers        ${failovers} calls met a failure on one member and succeeded on the other
  latency          median ${latencyMs.median} ms, p99 ${latencyMs.p99} ms, longest ${longestMs} ms
  met a failure    ${calls} calls: median ${median} ms, longest ${longest} ms
`);
  }

  #colored(state) {
    return this.#live ? `\u001b[${colors[state] ?? 0}m${state}\u001b[0m` : state;
  }

  #erase() {
    if (this.#live && this.#line !== '') process.stdout.write('\r\u001b[2K');
  }

  #draw() {
    if (this.#live && this.#line !== '') process.stdout.write(this.#line);
  }
}
