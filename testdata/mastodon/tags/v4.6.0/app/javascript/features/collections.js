import { element } from '../element';

export const mount = (root) => root.replaceChildren(element('h1', 'Collections'));
