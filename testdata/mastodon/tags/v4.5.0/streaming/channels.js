import { Redis } from 'ioredis';

// One connection to Redis for all clients: a channel is subscribed while anybody listens.
export const channels = (env, log) => {
  const options = { maxRetriesPerRequest: null, retryStrategy: (times) => Math.min(times * 50, 1000) };
  const redis = env.REDIS_URL
    ? new Redis(env.REDIS_URL, options)
    : new Redis({ ...options, host: env.REDIS_HOST || 'localhost', port: Number(env.REDIS_PORT || 6379), password: env.REDIS_PASSWORD || undefined });
  const listeners = new Map();

  redis.on('error', ({ message }) => log('error', `Redis: ${message}`));
  redis.on('message', (channel, text) => {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      log('error', `not JSON on ${channel}`);
      return;
    }
    listeners.get(channel)?.forEach((listener) => listener(message));
  });

  return {
    async subscribe(channel, listener) {
      if (!listeners.has(channel)) listeners.set(channel, new Set());
      listeners.get(channel).add(listener);
      await redis.subscribe(channel);
    },
    unsubscribe(channel, listener) {
      const all = listeners.get(channel);
      all?.delete(listener);
      if (all?.size) return;
      listeners.delete(channel);
      redis.unsubscribe(channel).catch(({ message }) => log('error', message));
    },
  };
};
