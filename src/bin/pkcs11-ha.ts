#!/usr/bin/env node
import { EXIT } from '../faces/cli/exit-code.js';
import { runTool } from '../faces/cli/invocation.js';

// Exit status if the process ends before its command does.
process.exitCode = EXIT.failed;
process.exitCode = await runTool(process);
