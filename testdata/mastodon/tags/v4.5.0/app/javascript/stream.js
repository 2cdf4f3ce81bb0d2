// Connects again by itself, the later the oftener it failed.
export const connect = (base, onUpdate, failures = 0) => {
  const socket = new WebSocket(`${base}/api/v1/streaming?stream=public`);
  socket.onmessage = ({ data }) => JSON.parse(data).event === 'update' && onUpdate();
  socket.onclose = () => setTimeout(() => connect(base, onUpdate, failures + 1), Math.min(1000 * 2 ** failures, 30_000));
};
