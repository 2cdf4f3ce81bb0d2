import { element } from '../element';

export const mount = (root) => {
  const form = element('form', '');
  form.append(element('textarea', ''), element('button', 'Post'));
  root.prepend(form);
};
