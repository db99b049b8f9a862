// undici: all cases over one connection, fifty requests pipelined, fetch, and a WebSocket.

import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';

import { Agent, fetch, Pool, request, WebSocket } from 'undici';

import { all, interest, pieces, whole } from './http1_cases.mjs';

const { ORIGIN, CA } = process.env;
const connect = { ca: readFileSync(CA) };
const dispatcher = new Agent({ connections: 1, pipelining: 1, connect });

async function ask(method, path, headers, body) {
  const sent = body === 'pieces' ? Readable.from(pieces()) : body;
  const answer = await request(ORIGIN + path, { method, headers, body: sent, dispatcher });
  return interest(answer.statusCode, answer.headers, await whole(answer.body));
}

async function pipelined() {
  const pool = new Pool(ORIGIN, { connections: 1, pipelining: 10, connect });
  const answers = Array.from({ length: 50 }, (_, number) => pool.request({ method: 'GET', path: `/echo?${number}` }));
  const bodies = await Promise.all(answers.map(async (answer) => (await (await answer).body.json()).query));
  await pool.close();
  return bodies;
}

function socket() {
  return new Promise((resolve, reject) => {
    const peer = new WebSocket(`${ORIGIN.replace('http', 'ws')}/socket`, { protocols: ['chat'], dispatcher: new Agent({ connect }) });
    const large = new Uint8Array(1 << 20).fill(7);
    const heard = [];
    peer.binaryType = 'arraybuffer';
    peer.onopen = () => {
      peer.send('hello');
      peer.send(large);
    };
    peer.onmessage = ({ data }) => {
      heard.push(typeof data === 'string' ? data : data.byteLength);
      if (heard.length === 2) peer.close(1000);
    };
    peer.onclose = ({ code }) => resolve([peer.protocol, heard, code]);
    peer.onerror = ({ error }) => reject(error);
  });
}

const found = await all(ask);
found.pipelined = await pipelined();
found.fetched = await (await fetch(`${ORIGIN}/gzip`, { dispatcher })).text() === 'hello'.repeat(1000);
found.followed = await (await fetch(`${ORIGIN}/moved`, { dispatcher })).text();
found.socket = await socket();
await dispatcher.close();
console.log(JSON.stringify(found));
