// The streaming server: tells connected clients what Redis says.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import dotenv from 'dotenv';
import { WebSocketServer } from 'ws';

import { accounts } from './accounts.js';
import { channels } from './channels.js';

// .env.production is looked up beside this file's real place; real environment wins.
const here = path.dirname(fs.realpathSync(fileURLToPath(import.meta.url)));
const name = process.env.NODE_ENV === 'production' ? '.env.production' : '.env.development';
dotenv.config({ path: path.resolve(here, '..', name) });

const { BIND = '127.0.0.1', PORT = '4000', SOCKET, BOOT_DELAY = '0' } = process.env;
const KEEPALIVE = 30_000;

const log = (level, message) => console.log(JSON.stringify({ level, message }));

const stop = (code) => {
  server.close();
  process.exit(code);
};

const { authenticate } = accounts(process.env);
const { subscribe, unsubscribe } = channels(process.env, log);
const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => offered.values().next().value });

const metrics = () =>
  [
    '# HELP mastodon_streaming_connected_clients The number of clients connected now',
    '# TYPE mastodon_streaming_connected_clients gauge',
    `mastodon_streaming_connected_clients{type="websocket"} ${sockets.clients.size}`,
    '',
  ].join('\n');

const answers = {
  '/api/v1/streaming/health': () => 'OK',
  '/metrics': metrics,
};

const server = http.createServer((request, response) => {
  const answer = answers[new URL(request.url, 'http://localhost').pathname];
  response.writeHead(answer ? 200 : 404, { 'content-type': 'text/plain', 'cache-control': 'private, no-store' });
  response.end(answer ? answer() : 'Not found');
});

const tokenOf = (request, url) =>
  url.searchParams.get('access_token') ??
  /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1] ??
  request.headers['sec-websocket-protocol']?.split(',')[0].trim();

const refuse = (socket, status) => socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);

// The Redis channel and the name of a stream that an account may listen to.
const streams = {
  user: (account) => `timeline:${account}`,
  public: () => 'timeline:public',
};

const serve = (socket, account, first) => {
  const listening = new Map();
  let alive = true;

  const start = async (stream) => {
    if (!Object.hasOwn(streams, stream)) {
      socket.send(JSON.stringify({ error: 'Unknown stream type', status: 400 }));
      return;
    }
    if (listening.has(stream)) return;
    const forward = ({ event, payload }) => {
      const text = typeof payload === 'object' ? JSON.stringify(payload) : payload;
      if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ stream: [stream], event, payload: text }));
    };
    listening.set(stream, forward);
    await subscribe(streams[stream](account), forward);
  };

  const end = (stream) => {
    if (!listening.has(stream)) return;
    unsubscribe(streams[stream](account), listening.get(stream));
    listening.delete(stream);
  };

  const keepalive = setInterval(() => {
    if (!alive) return socket.terminate();
    alive = false;
    return socket.ping();
  }, KEEPALIVE);

  socket.on('pong', () => (alive = true));
  socket.on('error', ({ message }) => log('error', message));
  socket.on('message', (data) => {
    let asked;
    try {
      asked = JSON.parse(data);
    } catch {
      return;
    }
    if (asked.type === 'subscribe') start(asked.stream);
    if (asked.type === 'unsubscribe') end(asked.stream);
  });
  socket.on('close', () => {
    clearInterval(keepalive);
    [...listening.keys()].forEach(end);
  });

  if (first) start(first);
};

server.on('upgrade', async (request, socket, head) => {
  const url = new URL(request.url, 'http://localhost');
  socket.on('error', ({ message }) => log('error', message));
  try {
    const token = tokenOf(request, url);
    const account = token && (await authenticate(token));
    if (!account) return refuse(socket, '401 Unauthorized');
    return sockets.handleUpgrade(request, socket, head, (client) => serve(client, account, url.searchParams.get('stream')));
  } catch ({ message }) {
    log('error', message);
    return refuse(socket, '503 Service Unavailable');
  }
});

// All sockets are cut at once and the status says nothing: 0 also after an error.
process.on('SIGINT', () => stop(0));
process.on('SIGTERM', () => stop(0));
process.on('uncaughtException', ({ stack }) => {
  log('fatal', stack);
  stop(0);
});

await new Promise((booted) => setTimeout(booted, Number(BOOT_DELAY) * 1000));
server.listen(SOCKET ? { path: SOCKET } : { host: BIND, port: Number(PORT) }, () => log('info', `Listening on ${SOCKET ?? `${BIND}:${PORT}`}`));
