import { initialState } from '../initial_state';

const form = document.createElement('form');
form.textContent = `Sign in to ${initialState().meta.domain}`;
document.getElementById('mastodon').append(form);
