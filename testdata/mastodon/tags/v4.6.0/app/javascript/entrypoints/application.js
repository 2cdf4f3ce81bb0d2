import { initialState } from '../initial_state';
import { connect } from '../stream';

const features = {
  timeline: () => import('../features/timeline'),
  compose: () => import('../features/compose'),
  about: () => import('../features/about'),
  collections: () => import('../features/collections'),
};

const show = async (name) => {
  const { mount } = await features[name]();
  mount(document.getElementById('mastodon'));
};

await show(window.location.pathname === '/about' ? 'about' : 'timeline');
document.addEventListener('keydown', ({ key }) => key === 'n' && show('compose'));
document.addEventListener('keydown', ({ key }) => key === 'c' && show('collections'));
connect(initialState().meta.streaming_api_base_url, () => show('timeline'));
