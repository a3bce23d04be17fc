import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { VirtualToken } from 'pkcs11-ha';

const token = await VirtualToken.open(process.env.GROUP ?? 'group.yaml');
const key = await token.get({ label: 'audit', class: 'PRIVATE_KEY' });
token.on('member', ({ member, from, to, reason }) => console.error(`${member}: ${from} -> ${to} ${reason}`));

const server = createServer(async (request, response) => {
  const signature = await token.sign('SHA256_RSA_PKCS', key, await buffer(request)).catch((error) => error);
  response.statusCode = signature instanceof Error ? 503 : 200;
  response.end(signature instanceof Error ? signature.message : signature);
}).listen(8080);

process.on('SIGTERM', () => server.close(() => token.close()));
