// Writes docs/commands.md from the definitions of the commands; a test fails if the page is out of date.
import { writeFileSync } from 'node:fs';
import { makeManual } from '../dist/faces/cli/manual.js';

writeFileSync(new URL('../docs/commands.md', import.meta.url), makeManual());
