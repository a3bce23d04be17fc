// Output of results at a shell.
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import Table from 'cli-table3';

export function printRows(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const table = new Table({ head: columns.map((column) => headOf[column] ?? column), style: { head: [], border: [] } });
  for (const row of rows) table.push(columns.map((column) => row[column] ?? ''));
  process.stdout.write(`${table}\n`);
}

export function printGoals(goals) {
  process.stdout.write('\nGoals\n');
  const table = new Table({ head: ['', 'goal', 'value', 'met'], style: { head: [], border: [] } });
  for (const { name, goal, value, met } of goals) table.push([name, goal, value, met ? 'yes' : 'no']);
  process.stdout.write(`${table}\n`);
}

/** Headings of the columns of results. */
const headOf = {
  rate: 'calls/s',
  processor: 'processor time µs/call',
  p50: 'p50 µs',
  p99: 'p99 µs',
};

/** Describes the machine on which the figures are measured. */
export function describeMachine() {
  const [processor] = cpus();
  const system = /PRETTY_NAME="(.*)"/u.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  return {
    processors: cpus().length,
    model: processor?.model.trim(),
    system,
    kernel: release(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}
