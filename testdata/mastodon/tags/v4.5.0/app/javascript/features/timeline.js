import { element } from '../element';

export const mount = async (root) => {
  const answer = await fetch('/api/v1/timelines/public?limit=20');
  const statuses = await answer.json();
  root.replaceChildren(...statuses.map(({ content }) => element('article', content)));
};
