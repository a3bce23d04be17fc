// Sends a request to the service in this container and prints the answer: node control.js NAME [PARAMETERS AS JSON]
import { request } from 'node:http';
import { text } from 'node:stream/consumers';

const [, , name, parameters = '{}'] = process.argv;
const asking = request({ socketPath: '/run/app/control.sock', method: 'POST' }, async (response) => {
  const answer = await text(response);
  process.stdout.write(answer);
  process.exitCode = response.statusCode === 200 ? 0 : 1;
});
asking.on('error', (error) => {
  process.stderr.write(`the service does not answer: ${error.code}\n`);
  process.exitCode = 2;
});
asking.end(JSON.stringify({ ...JSON.parse(parameters), name }));
