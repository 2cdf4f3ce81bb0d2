import { element } from '../element';

const line = ({ content, account }) => {
  const article = element('article', content);
  article.prepend(element('strong', account.display_name || account.username));
  return article;
};

export const mount = async (root) => {
  const answer = await fetch('/api/v1/timelines/public?limit=20');
  if (!answer.ok) return;
  root.replaceChildren(...(await answer.json()).map(line));
};
