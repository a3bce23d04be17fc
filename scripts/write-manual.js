// Writes docs/commands.md from the commands themselves; a test tells when it is out of date.
import { writeFileSync } from 'node:fs';
import { makeManual } from '../dist/faces/cli/manual.js';

writeFileSync(new URL('../docs/commands.md', import.meta.url), makeManual());
