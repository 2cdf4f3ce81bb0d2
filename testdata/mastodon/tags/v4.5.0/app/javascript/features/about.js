import { element } from '../element';
import { initialState } from '../initial_state';

export const mount = (root) => {
  const { domain, version } = initialState().meta;
  root.replaceChildren(element('h1', domain), element('p', version));
};
