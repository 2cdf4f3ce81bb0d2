export const initialState = () => JSON.parse(document.getElementById('initial-state').textContent);
