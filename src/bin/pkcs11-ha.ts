#!/usr/bin/env node
import { EXIT } from '../faces/cli/exit-code.js';
import { runTool } from '../faces/cli/invocation.js';

// The status until a command has come to its end in order.
process.exitCode = EXIT.failed;
process.exitCode = await runTool(process);
