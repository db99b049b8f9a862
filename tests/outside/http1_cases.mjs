// As http1_cases.py.

import { createHash } from 'node:crypto';

export const BODY = Buffer.from('0123456789abcdef'.repeat(20_000));
const FIELDS = ['content-type', 'content-length', 'transfer-encoding', 'content-encoding', 'etag', 'location', 'cache-control', 'x-field'];
const typed = { 'Content-Type': 'text/plain' };
export const CASES = {
  plain: ['GET', '/plain', {}],
  again: ['GET', '/plain', {}],
  query: ['GET', '/echo?a=b&c=%20d', {}],
  head: ['HEAD', '/plain', {}],
  head_of_large: ['HEAD', '/large', {}],
  chunks: ['GET', '/chunks', {}],
  large: ['GET', '/large', {}],
  zipped: ['GET', '/gzip', {}],
  not_modified: ['GET', '/plain', { 'If-None-Match': '"one"' }],
  no_content: ['GET', '/status/204', {}],
  missing: ['GET', '/status/404', {}],
  failed: ['GET', '/status/500', {}],
  moved: ['GET', '/moved', {}],
  post: ['POST', '/echo', typed, Buffer.from('hello')],
  post_nothing: ['POST', '/echo', typed, Buffer.from('')],
  put_large: ['PUT', '/echo', typed, BODY],
  put_pieces: ['PUT', '/echo', typed, 'pieces'],
  delete: ['DELETE', '/echo', {}],
  options: ['OPTIONS', '/echo', {}],
  after_all: ['GET', '/plain', {}],
};

export async function* pieces() {
  for (let start = 0; start < BODY.length; start += 50_000) yield BODY.subarray(start, start + 50_000);
}

export function interest(status, headers, body) {
  const fields = Object.fromEntries(FIELDS.filter((name) => headers[name]).map((name) => [name, headers[name]]));
  return { status, fields, cookies: [headers['set-cookie'] ?? []].flat().sort(), body: text(body) };
}

export function text(body) {
  return body.length < 300 ? body.toString('latin1') : createHash('sha256').update(body).digest('hex');
}

export async function whole(stream) {
  const received = [];
  for await (const piece of stream) received.push(piece);
  return Buffer.concat(received);
}

// Case after case, so that a connection is used again.
export async function all(ask) {
  const found = {};
  for (const [name, each] of Object.entries(CASES)) found[name] = await ask(...each);
  return found;
}
