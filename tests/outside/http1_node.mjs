// Node's own client: all cases over one connection, and uploads that wait to be asked for their body.

import http from 'node:http';
import https from 'node:https';
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';

import { all, BODY, interest, pieces, whole } from './http1_cases.mjs';

const { ORIGIN } = process.env;
const client = ORIGIN.startsWith('https') ? https : http;
const agent = new client.Agent({ keepAlive: true, maxSockets: 1 });
const connections = new Set();

function begin(method, path, headers) {
  const request = client.request(ORIGIN + path, { method, headers, agent });
  request.on('socket', (socket) => connections.add(socket));
  return request;
}

async function ended(request) {
  const [answer] = await once(request, 'response');
  return interest(answer.statusCode, answer.headers, await whole(answer));
}

async function ask(method, path, headers, body) {
  const request = begin(method, path, body instanceof Buffer ? { ...headers, 'Content-Length': body.length } : headers);
  const answer = ended(request);
  if (body === 'pieces') await pipeline(pieces(), request);
  else request.end(body);
  return answer;
}

async function waiting(path) {
  const request = begin('POST', path, { 'Content-Type': 'text/plain', 'Content-Length': BODY.length, Expect: '100-continue' });
  let asked = false;
  request.on('continue', () => {
    asked = true;
    request.end(BODY);
  });
  request.flushHeaders();
  const answer = await ended(request);
  request.destroy();
  return { asked, ...answer };
}

const found = await all(ask);
const used = connections.size;
found.waits = await waiting('/echo');
found.refused = await waiting('/refuse');
agent.destroy();
console.log(JSON.stringify({ ...found, one_connection: used === 1 }));
